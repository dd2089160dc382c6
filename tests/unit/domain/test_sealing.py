import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from domain import sealing
from domain.sealing import EventSealer, SealBroken, Sealer, derive_key, master_key, new_data_key

_KEY = bytes(range(32))
_SEALER = Sealer({1: _KEY})
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(plain=st.binary(max_size=200), context=st.text(max_size=40))
def test_what_was_sealed_opens(plain: bytes, context: str) -> None:
    assert _SEALER.open(_SEALER.seal(plain, context=context), context=context) == plain


@given(value=_JSON)
def test_sealed_json_opens(value: object) -> None:
    assert _SEALER.open_json(_SEALER.seal_json(value, context="t.c:1"), context="t.c:1") == value


@given(plain=st.binary(max_size=40), data=st.data())
def test_any_flipped_bit_breaks_the_seal(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(_SEALER.seal(plain, context="t.c:1"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBroken):
        _SEALER.open(bytes(sealed), context="t.c:1")


@given(sealed=st.binary(max_size=80))
def test_bytes_that_were_never_sealed_do_not_open(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        _SEALER.open(sealed, context="t.c:1")


@pytest.mark.parametrize("length", range(5 + 12 + 16 + 4))
def test_a_sealed_value_that_was_cut_off_does_not_open(length: int) -> None:
    sealed = _SEALER.seal(b"A+ 70", context="t.c:1")
    with pytest.raises(SealBroken):
        _SEALER.open(sealed[:length], context="t.c:1")


@given(written=st.text(max_size=20), read=st.text(max_size=20))
def test_a_sealed_value_opens_in_its_own_row_only(written: str, read: str) -> None:
    sealed = _SEALER.seal(b"A+", context=written)
    if written == read:
        assert _SEALER.open(sealed, context=read) == b"A+"
    else:
        with pytest.raises(SealBroken):
            _SEALER.open(sealed, context=read)


def test_equal_values_are_sealed_differently() -> None:
    assert len({_SEALER.seal(b"A+", context="t.c:1") for _ in range(100)}) == 100


def test_the_newest_key_seals_and_all_keys_open() -> None:
    older, newer = AESGCM.generate_key(256), AESGCM.generate_key(256)
    old_value = Sealer({1: older}).seal(b"old", context="x")
    both = Sealer({2: newer, 1: older})
    new_value = both.seal(b"new", context="x")
    assert both.open(old_value, context="x") == b"old"
    assert Sealer({2: newer}).open(new_value, context="x") == b"new"
    with pytest.raises(SealBroken, match="key 2"):
        Sealer({1: older}).open(new_value, context="x")


def test_data_keys_open_with_their_master_key_only() -> None:
    master, other = master_key("one"), master_key("two")
    wrapped = {1: new_data_key(master), 2: new_data_key(master)}
    sealed = Sealer.unwrap(wrapped, master).seal(b"x", context="c")
    assert Sealer.unwrap(wrapped, master).open(sealed, context="c") == b"x"
    with pytest.raises(SealBroken, match="ENCRYPTION_MASTER_KEY"):
        Sealer.unwrap(wrapped, other)
    with pytest.raises(SealBroken, match="ENCRYPTION_MASTER_KEY"):
        Sealer.unwrap({1: wrapped[1][:5]}, master)


def test_the_master_key_is_taken_from_base64_of_32_bytes_and_stretched_from_other_text() -> None:
    assert master_key(base64.b64encode(_KEY).decode()) == _KEY
    short = base64.b64encode(_KEY[:16]).decode()
    assert len(master_key(short)) == 32
    assert master_key(short) != _KEY
    assert master_key("a") != master_key("b")


def test_keys_for_different_purposes_differ() -> None:
    assert derive_key("s", purpose="service tokens") != derive_key("s", purpose="object addresses")


def test_the_sealers_text_does_not_show_keys() -> None:
    assert _KEY.hex() not in repr(vars(_SEALER))
    assert repr(_KEY) not in repr(vars(_SEALER))


# --- events

_OLD_MASTER, _NEW_MASTER = bytes(range(32)), bytes(range(32, 64))


def _sealed(sealer: EventSealer, *, topic: str = "measurement.completed", event_id: str = "e-1") -> bytes:
    return sealer.seal(b"452 mg/dL", topic=topic, event_id=event_id)


def test_what_one_process_sealed_for_an_event_another_opens_for_that_event_only() -> None:
    sealed = _sealed(EventSealer([_OLD_MASTER]))
    other = EventSealer([_OLD_MASTER])
    assert b"452" not in sealed
    assert other.open(sealed, topic="measurement.completed", event_id="e-1") == b"452 mg/dL"
    for topic, event_id in (("health_alert.triggered", "e-1"), ("measurement.completed", "e-2")):
        with pytest.raises(SealBroken):
            other.open(sealed, topic=topic, event_id=event_id)


def test_events_that_an_old_master_key_sealed_open_while_it_is_given_after_the_new_one() -> None:
    old, new = EventSealer([_OLD_MASTER]), EventSealer([_NEW_MASTER])
    both = EventSealer([_NEW_MASTER, _OLD_MASTER])
    assert both.open(_sealed(old), topic="measurement.completed", event_id="e-1") == b"452 mg/dL"
    assert new.open(_sealed(both), topic="measurement.completed", event_id="e-1") == b"452 mg/dL"
    with pytest.raises(SealBroken, match="not known here"):
        new.open(_sealed(old), topic="measurement.completed", event_id="e-1")


def test_a_data_key_serves_one_topic_for_a_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_EVENT_KEY_VALUES", 2)
    sealer = EventSealer([_OLD_MASTER])

    def key_of(sealed: bytes) -> bytes:
        return sealed[: sealing._EVENT_HEADER]

    first, second, third = (key_of(_sealed(sealer)) for _ in range(3))
    assert first == second != third
    assert key_of(_sealed(sealer, topic="health_alert.triggered")) not in (first, third)


@pytest.mark.parametrize("cut", [0, 1, 5, 64, 76, 92])
def test_cut_off_sealed_events_do_not_open(cut: int) -> None:
    sealer = EventSealer([_OLD_MASTER])
    with pytest.raises(SealBroken):
        sealer.open(_sealed(sealer)[:cut], topic="measurement.completed", event_id="e-1")


def test_a_pseudonym_is_the_same_for_the_same_person_on_the_same_topic_only() -> None:
    one, another = EventSealer([_OLD_MASTER]), EventSealer([_OLD_MASTER])
    pseudonym = one.pseudonym("u-1", topic="measurement.completed")
    assert another.pseudonym("u-1", topic="measurement.completed") == pseudonym
    others = {
        one.pseudonym("u-2", topic="measurement.completed"),
        one.pseudonym("u-1", topic="health_alert.triggered"),
        EventSealer([_NEW_MASTER]).pseudonym("u-1", topic="measurement.completed"),
    }
    assert len(others | {pseudonym}) == 4
    assert "u-1" not in pseudonym
