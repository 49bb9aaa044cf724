print("a BOM: café", __doc__)
