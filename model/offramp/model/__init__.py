"""Encoders of the BERT family run stage by stage on packed tokens, with exits between."""
