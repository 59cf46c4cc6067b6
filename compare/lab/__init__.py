"""The experiments of four papers on delayed generalisation: runs, claims as measured, pictures."""
