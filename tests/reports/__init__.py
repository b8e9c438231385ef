"""Inputs that went wrong for somebody: each folder of CRACKFLOW_DATA/reports, and others of its kind."""
