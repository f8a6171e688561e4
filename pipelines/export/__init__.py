"""Data sets in the forms that training code of others reads."""
