# -*- coding: latin-1 -*-
print("a cookie:", ascii("café"))
