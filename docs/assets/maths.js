// Formulas, left in the page as TeX by pymdownx.arithmatex, are set by the copy of KaTeX beside this file: no network.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const text = element.textContent.trim(); // \( ... \) or \[ ... \]
    katex.render(text.slice(2, -2), element, {
      displayMode: text.startsWith("\\["),
      macros: { "\\E": "\\mathbb{E}", "\\dd": "\\mathrm{d}", "\\tr": "\\operatorname{tr}", "\\T": "\\mathsf{T}" },
    });
  }
});
