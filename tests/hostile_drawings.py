"""Real drawings, small and well-formed, that a real renderer does not survive or hardly ever finishes."""

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100">{}</svg>'


def crashing() -> bytes:
    """Groups in groups: the renderer goes down once a level, until the stack is used up (SIGSEGV)."""
    depth = 900
    return _SVG.format("<g>" * depth + "<rect width='9' height='9'/>" + "</g>" * depth).encode()


def endless(octaves: int = 10**6) -> bytes:
    """Noise of a million octaves: minutes of work."""
    noise = f"<filter id='f'><feTurbulence baseFrequency='.05' numOctaves='{octaves}'/></filter>"
    return _SVG.format(noise + "<rect width='100' height='100' filter='url(#f)'/>").encode()
