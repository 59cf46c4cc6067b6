"""The paper's variants of the network and its task."""
