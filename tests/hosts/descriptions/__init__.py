"""The hosts of the corpus, in words; ../make.py writes them out."""
