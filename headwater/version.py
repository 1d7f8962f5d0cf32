"""The version of the code, as it is written beside what the code wrote."""

CODE_VERSION = "0.1.0"
