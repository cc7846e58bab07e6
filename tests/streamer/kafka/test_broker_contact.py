"""When the brokers count as gone."""

from streamer.kafka.broker_contact import OUTAGE_S, BrokerContact


def quiet(contact: BrokerContact, since: float, seconds: float, fetches: list[int | None]) -> None:
    """Nothing changes for some seconds."""
    for half in range(int(2 * seconds) + 1):
        contact.observe(since + half / 2, fetches, acknowledged=0, unacknowledged=0)


def test_brokers_that_answer_no_fetch() -> None:
    contact = BrokerContact(0.0, 0.0)
    contact.observe(1.0, [17, None], acknowledged=0, unacknowledged=0)
    quiet(contact, 1.0, 9.5, [17, None])
    assert contact.outage(10.5) is None
    assert contact.outage(11.0) == "no broker has answered a fetch for 10 s"
    contact.observe(30.0, [17, 31], acknowledged=0, unacknowledged=0)
    assert contact.outage(30.0) is None, "one partition is read"


def test_brokers_that_answer_fetches_and_acknowledge_nothing() -> None:
    contact = BrokerContact(0.0, 0.0)
    for second in range(12):
        contact.observe(second, [second], acknowledged=5, unacknowledged=second + 1)
    assert contact.outage(11.0) == "no broker has acknowledged an answer for 11 s"
    contact.observe(12.0, [12], acknowledged=6, unacknowledged=12)
    assert contact.outage(12.0) is None


def test_reading_that_pauses_while_answers_are_acknowledged_is_no_outage() -> None:
    contact = BrokerContact(0.0, 0.0)
    for second in range(60):
        contact.observe(second, [7], acknowledged=second, unacknowledged=100)
        assert contact.outage(second) is None


def test_a_worker_without_partitions_has_no_outage() -> None:
    contact = BrokerContact(0.0, 0.0)
    quiet(contact, 0.0, 60.0, [])
    assert contact.outage(60.0) is None
    quiet(contact, 60.0, OUTAGE_S, [None])
    assert contact.outage(60.0 + OUTAGE_S) is not None, "a partition that was never read"


def test_a_wall_clock_that_jumps_is_no_outage() -> None:
    """The values of `fetches` are compared, not subtracted from a clock."""
    contact = BrokerContact(0.0, 0.0)
    for second, timestamp in enumerate([1_000, 3_601_000, 3_602_000, 2_000, 3_000]):
        contact.observe(second * 6.0, [timestamp], acknowledged=0, unacknowledged=0)
        assert contact.outage(second * 6.0 + 5) is None
