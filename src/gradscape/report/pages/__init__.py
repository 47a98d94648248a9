"""Pages of HTML, each one self-contained file."""
