"""From labelled text to a calibrated checkpoint."""
