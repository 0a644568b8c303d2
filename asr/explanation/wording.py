"""Numbers and nouns as the page writes them."""


def duration(seconds: float) -> str:
    """42 ms, 1.3 s."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else "more than 100 s"


def signed(value: float, places: int = 3) -> str:
    """A decimal number with a true minus sign."""
    return f"{value:z.{places}f}".replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def article(noun: str) -> str:
    return f"an {noun}" if noun.startswith("LSTM") else f"a {noun}"
