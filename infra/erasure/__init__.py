"""Erasure and retention carried out: keys destroyed, traces purged, certificates issued."""
