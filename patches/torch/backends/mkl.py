"""Intel MKL: not used; products run on oneDNN."""


def is_available():
    return False
