from northbound.status import ConnectorStatus, Counters, Status, StoreStatus


def status(*states, error=None):
    connectors = [
        ConnectorStatus(name=state, type="t", destination="d", state=state, counters=Counters()) for state in states
    ]
    return Status(
        version="1", uptime=0.0, sources=[], connectors=connectors, store=StoreStatus(id="i", path="p", error=error)
    )


def test_the_total_is_what_the_cursor_has_passed():
    counters = Counters(
        acknowledged=1, filtered=2, overtaken=4, superseded=8, dropped_queue_full=16, dropped_expired=32, dead=64
    )
    assert counters.total == 127


def test_counters_add_up():
    counters = Counters(acknowledged=1, dead=2)
    counters.add(Counters(acknowledged=10, filtered=5))
    assert counters == Counters(acknowledged=11, filtered=5, dead=2)


def test_health_is_every_connector_online_and_a_store_that_takes_messages():
    assert status("online", "online").healthy
    assert not status("online", "unauthorised").healthy
    assert not status("online", error="disk full").healthy
