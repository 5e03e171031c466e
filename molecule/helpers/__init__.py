"""What the tests of all scenarios share. The fixtures that hand it out are in ``molecule/conftest.py``."""
