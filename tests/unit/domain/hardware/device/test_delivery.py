"""A command counts as arrived only when a heartbeat came that cannot have crossed it."""

from domain.hardware.device.delivery import Delivery


def test_the_second_heartbeat_after_a_command_proves_its_arrival() -> None:
    delivery = Delivery()
    assert delivery.record_heartbeat() == []
    delivery.record_sent(["a"])
    assert delivery.record_heartbeat() == []
    delivery.record_sent(["b"])
    assert delivery.record_heartbeat() == ["a"]
    assert delivery.record_heartbeat() == ["b"]
    assert delivery.record_heartbeat() == []


def test_what_was_sent_is_never_sent_again_on_the_same_stream() -> None:
    delivery = Delivery()
    delivery.record_sent(["a", "b"])
    for _ in range(3):
        delivery.record_heartbeat()
    assert delivery.sent == {"a", "b"}
