#!/usr/bin/env python
print("CRLF")
import traceback
1/0
