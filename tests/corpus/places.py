"""Coordinates of a place on earth, and pairs of numbers that are none."""

from __future__ import annotations

from random import Random

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, Number, mark

SCENE = Scene(
    ("position", "last_position", "vehicle", "checked_in_at", "gps", "beacon_position"),
    ("position", "gps", "location", "at", "place", "where", "coordinates"),
    (
        "shuttle is at {}",
        "checked in from {}",
        "Position {} (accuracy 8 m)",
        "meet at {}, gate 2",
        "phone reported {}; geofence left",
        "last fix: {}",
        "[{}] parked",
        "{} is outside the site",
    ),
)
COUNTS = {
    "plain": 26, "embedded": 32, "nested": 20, "array": 12, "object-key": 10, "status-key": 10, "topic": 12,
    "metadata": 16,
    "json-in-string": 16, "json-escape": 8, "percent": 8, "percent-twice": 4, "fullwidth": 4, "zero-width": 6,
    "html": 6, "unicode-dash": 6,
}  # fmt: skip
CITIES = (
    (51.507432, -0.127831), (-33.868812, 151.209341), (40.712776, -74.005974), (35.676233, 139.650331),
    (48.856614, 2.352222),
    (-36.848461, 174.763336), (1.352083, 103.819839), (-22.906847, -43.172897), (59.329323, 18.068581),
    (25.204849, 55.270783),
    (53.349804, -6.260310), (-1.292066, 36.821945),
)  # fmt: skip


def _near_city(rng: Random) -> tuple[float, float]:
    latitude, longitude = rng.choice(CITIES)
    return round(latitude + rng.uniform(-0.2, 0.2), 6), round(longitude + rng.uniform(-0.2, 0.2), 6)


def _degrees(value: float, sides: str, style: int) -> str:
    side = sides[value < 0]
    minutes, seconds = divmod(abs(value) * 3600, 60)
    degrees, minutes = divmod(int(minutes), 60)
    forms = (
        f"{degrees}°{minutes:02}'{seconds:04.1f}\"{side}",
        f"{degrees}° {minutes:02}\u2032 {seconds:04.1f}\u2033 {side}",
        f"{abs(value):.4f}° {side}",
        f"{degrees}°{minutes:02}'{int(seconds):02}\"{side}",
        f"{abs(value):.5f}°{side}",
    )
    return forms[style]


def _pair(rng: Random) -> str:
    latitude, longitude = _near_city(rng)
    kind = rng.randint(0, 9)
    places = rng.choice((4, 5, 6))
    if kind < 5:
        separator = rng.choice((", ", ",", " , ", ", "))
        return mark(f"{latitude:.{places}f}{separator}{longitude:.{places}f}")
    style = kind - 5
    between = rng.choice((" ", ", "))
    return mark(_degrees(latitude, "NS", style) + between + _degrees(longitude, "EW", style))


def _link(rng: Random) -> str:
    latitude, longitude = _near_city(rng)
    pair = mark(f"{latitude:.5f},{longitude:.5f}")
    form = rng.choice(
        (
            "geo:{}",
            "geo:{};u=35",
            "geo:{}?z=16",
            "https://maps.google.example/?q={}",
            "https://www.google.com/maps/@{},17z",
            "https://www.google.com/maps/place/HQ/@{},17z/data=x",
            "https://maps.apple.com/?ll={}&z=15",
            "https://www.google.com/maps/search/?api=1&query={}",
            "https://www.bing.com/maps?cp={two}&lvl=16",
            "https://www.openstreetmap.org/#map=18/{slash}",
            "https://www.openstreetmap.org/?mlat={lat}&mlon={lon}",
            "https://maps.example/?lat={lat}&lng={lon}",
            "https://maps.example/?latitude={lat}&longitude={lon}&zoom=4",
        )
    )
    return (
        form.replace("{}", pair)
        .replace("{two}", mark(f"{latitude:.5f}~{longitude:.5f}"))
        .replace("{slash}", mark(f"{latitude:.5f}/{longitude:.5f}"))
        .replace("{lat}", mark(f"{latitude:.5f}"))
        .replace("{lon}", mark(f"{longitude:.5f}"))
    )


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    pairs = [_pair(rng) for _ in range(120)]
    book.spread(COUNTS, pairs)
    book.spread(
        {"plain": 14, "embedded": 10, "nested": 8, "metadata": 4, "json-in-string": 4}, [_link(rng) for _ in range(60)]
    )
    _keyed(book)
    _by_hand(book)
    _near(book)


def _keyed(book: Book) -> None:
    rng = book.rng
    for first, second in (
        ("lat", "lng"), ("lat", "lon"), ("latitude", "longitude"), ("Latitude", "Longitude"), ("lat", "long"), ("LAT",
        "LON"),
        ("gps_lat", "gps_lng"), ("gpsLatitude", "gpsLongitude"),
    ):  # fmt: skip
        for _ in range(2):
            latitude, longitude = _near_city(rng)
            book.true(
                "number", book.state({first: Number(latitude), second: Number(longitude), "accuracy": 8}, "position")
            )
        latitude, longitude = _near_city(rng)
        there = {first: mark(str(latitude)), second: mark(str(longitude))}
        book.true("nested", book.state({"user": "guest", "location": there}, "position"))
        book.true("metadata", book.metadata({"location": {first: Number(latitude), second: Number(longitude)}}))
        book.true(
            "json-in-string",
            book.state(JsonText({"fix": {first: Number(longitude / 3), second: Number(longitude)}}), "raw"),
        )
    for _ in range(6):
        latitude, longitude = _near_city(rng)
        book.true(
            "number",
            book.state({"type": "Point", "coordinates": [Number(longitude), Number(latitude)]}, "geo"),
            "GeoJSON",
        )
        feature = {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [Number(longitude), Number(latitude)]},
            "properties": {},
        }
        book.true("number", book.state({"type": "FeatureCollection", "features": [feature]}, "geo"), "GeoJSON")
    for key in ("latitude", "longitude", "lat", "lng"):
        value = _near_city(rng)[0]
        book.true("status-key", book.state(Number(value), key, module="Tracker"))


def _by_hand(book: Book) -> None:
    for text in (
        f"POINT({mark('-0.127831 51.507432')})",
        f"lat: {mark('51.507432')}, lng: {mark('-0.127831')}",
        f"lat={mark('51.507432')} lon={mark('-0.127831')} sats=7",
        f"latitude {mark('51.507432')} longitude {mark('-0.127831')}",
        f"({mark('51.507432, -0.127831')})",
        f"{mark('51.507432, -0.127831')}; {mark('51.507999, -0.127111')}",
        f"{mark('51.507432N, 0.127831W')}",
        f"{mark('N 51.507432, W 0.127831')}",
        f"{mark('51.507432,-0.127831')},alt 35 m",
        f"GPS:{mark('51.507432,-0.127831')}",
    ):
        book.true("embedded", book.state(text, "log"))


def _near(book: Book) -> None:
    book.misses(near("coordinates"))
    for key, value in (
        ("latency", 51.5074), ("late", 3.5), ("flat", 12.5), ("plat", 51.5), ("length", 12.4321), ("lng", "en"),
        ("long", True),
        ("lat", None), ("lat", "low"), ("longest", 12.1234), ("template", 4.1234), ("lateral", 1.2345),
        ("longevity", 12.3456),
        ("temperature", 21.5123), ("price", 51.5074), ("energy", 51.507432), ("size", 12.3456), ("version", 1.2345),
        ("belonging", 3.1234),
        ("slat", 45.1234), ("isolation", 12.3451), ("ventilation", 34.1234),
    ):  # fmt: skip
        book.miss(book.state({key: value, "online": True}, "reading"))
    for value in (
        [21.5, 44],
        [12.5, 8.99],
        [51.5, 40.7, 12.3],
        [1920, 1080],
        {"x": 12.5432, "y": 8.1234},
        {"w": 51.5074, "h": 40.1278},
    ):
        book.miss(book.state({"value": value}, "reading"))
    for value in ({"x": 0.3127, "y": 0.329}, {"xy": [0.3127, 0.329]}, {"temperature": 21.5123, "humidity": 44.1234}):
        book.miss(book.state(value, "light"), "numbers of four places")
