"""From parallel text to data for fairseq-train."""
