"""From attention maps to masks: scores, CRF, thresholds, clusters."""
