"""Steps on sound: measuring, cutting, levelling, recognising, scoring."""
