"""Getting parallel text, and turning it into data for fairseq-train."""
