"""The report: a data set on one page that needs no server and no network."""
