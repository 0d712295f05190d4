"""Apple's Metal: not a target of Jittor."""


def is_available():
    return False


def is_built():
    return False
