"""The paper, file by file; plain.py has all of it in one."""
