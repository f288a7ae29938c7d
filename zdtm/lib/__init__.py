"""What the test programs use: program.py for those in Python, zdtmtst.h and zdtmtst.c for those in C."""
