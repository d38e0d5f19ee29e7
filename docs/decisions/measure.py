"""The figures in these pages: ``.venv/bin/python docs/decisions/measure.py [NAME ...]`` makes them again on your machine.

Each measurement works on a fresh database in a temporary folder and prints one line per figure. Best of a few runs, because
other work on the machine only ever adds time; processor time where nothing waits.
"""

from __future__ import annotations

import asyncio
import email.message
import email.policy
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from email.headerregistry import Address as MailboxHeader
from functools import partial
from pathlib import Path

import apsw
import minijinja
import prometheus_client
import sqlalchemy
import sqlalchemy.orm

from mailfleet.base.gauges import Gauges
from mailfleet.base.ids import IdGenerator
from mailfleet.config.metrics import CATALOGUE
from mailfleet.engine import snapshots
from mailfleet.engine.journal import Journal
from mailfleet.listen.metrics import exposition
from mailfleet.mail.address import Address
from mailfleet.mail.content import ContentSource, compile_content
from mailfleet.mail.dkim import RSA, Signer, SigningKey, sign
from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import campaigns, queue, schema, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Database, Tx, open_database
from mailfleet.store.migrate import upgrade
from mailfleet.store.queue import NewDelivery

ROOT = Path(__file__).parents[2]
ROWS = 200_000


def say(what: str, seconds: float, note: str = "") -> None:
    """One figure."""
    shown = f"{seconds * 1e6:10.1f} us" if seconds < 0.001 else f"{seconds * 1e3:10.2f} ms"
    sys.stdout.write(f"{what:<64}{shown}  {note}\n")


def best(work: Callable[[], object], runs: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest run."""
    found = []
    for _ in range(runs):
        start_s = clock()
        work()
        found.append(clock() - start_s)
    return min(found)


def busy(work: Callable[[], object], times: int) -> float:
    """Processor seconds of one call, for work that waits for nothing."""
    return best(lambda: [work() for _ in range(times)], 5, time.process_time) / times


def insert_one(tx: Tx) -> None:
    """A write of the size of one delivery's row."""
    tx.run("INSERT INTO note (text) VALUES (?)", ("x" * 300,))


async def commits(folder: Path) -> None:
    """One write alone, and the same when many come at once."""
    path = folder / "commits.db"
    apsw.Connection(str(path)).execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")
    database = open_database(path)
    await database.write(insert_one)
    for many, rounds in ((1, 300), (32, 30), (512, 8)):
        before, start_s = database.commits, time.perf_counter()
        for _ in range(rounds):
            await asyncio.gather(*(database.write(insert_one) for _ in range(many)))
        spent_s = time.perf_counter() - start_s
        per_commit = many * rounds / (database.commits - before)
        say(f"a durable write, {many} waiting at once", spent_s / (many * rounds), f"{per_commit:.0f} writes a commit")
    database.close()


def write_by_flock(path: Path, stop_s: float, found: multiprocessing.Queue[tuple[int, float]]) -> None:
    """Writes one after the other until ``stop_s``, taking turns by flock."""

    async def run() -> None:
        database = open_database(path)
        count, longest_s = 0, 0.0
        while time.time() < stop_s:
            start_s = time.perf_counter()
            await database.write(insert_one)
            count, longest_s = count + 1, max(longest_s, time.perf_counter() - start_s)
        database.close()
        found.put((count, longest_s))

    asyncio.run(run())


def write_by_polling(path: Path, stop_s: float, found: multiprocessing.Queue[tuple[int, float]]) -> None:
    """The same with SQLite's own waiting."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.execute("PRAGMA synchronous=FULL")
    count, longest_s = 0, 0.0
    while time.time() < stop_s:
        start_s = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO note (text) VALUES (?)", ("x" * 300,))
        connection.execute("COMMIT")
        count, longest_s = count + 1, max(longest_s, time.perf_counter() - start_s)
    found.put((count, longest_s))


async def turns(folder: Path) -> None:
    """Four processes that write all the time: how many writes, and how long the unluckiest waits."""
    for name, work in (("flock", write_by_flock), ("SQLite's busy polling", write_by_polling)):
        path = folder / f"turns-{work.__name__}.db"
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")
        connection.close()
        found: multiprocessing.Queue[tuple[int, float]] = multiprocessing.Queue()
        writers = [multiprocessing.Process(target=work, args=(path, time.time() + 4, found)) for _ in range(4)]
        for writer in writers:
            writer.start()
        results = [found.get() for _ in writers]
        for writer in writers:
            writer.join()
        counts = sorted(count for count, _ in results)
        say(f"4 writing processes, {name}: longest wait", max(longest for _, longest in results), f"writes {counts}")


async def content(folder: Path) -> None:
    """One copy of the example newsletter: compiled once and filled, against built by the email package."""
    html = (ROOT / "examples/newsletter/newsletter.html").read_text("utf-8")
    subject = 'Autumn is here, {{ first_name | default("friend") }}'
    source = ContentSource(sender="Shop <news@shop.example>", subject=subject, html=html, text=None)
    say("compile the example newsletter, once a campaign", busy(lambda: compile_content(source, boundary_seed="x"), 3))
    compiled = compile_content(source, boundary_seed="x")
    fields = {name: "12" if name == "order_count" else "Zoë Müller" for name in compiled.variables}
    to = Address.parse("zoe@example.org")

    def fill() -> tuple[bytes, bytes]:
        filled = compiled.fill(fields, recipient=to, message_id="<a@shop.example>", date_ms=1_767_225_600_000)
        return filled.header, filled.body

    header, body = fill()
    engine = minijinja.Environment(templates={"html": html, "subject": subject})

    def build() -> bytes:
        message = email.message.EmailMessage(policy=email.policy.SMTP)
        message["From"] = MailboxHeader("Shop", "news", "shop.example")
        message["To"] = MailboxHeader("", addr_spec="zoe@example.org")
        message["Subject"] = engine.render_template("subject", **fields)
        message.set_content("the plain text, ready made")
        message.add_alternative(engine.render_template("html", **fields), subtype="html", cte="quoted-printable")
        return message.as_bytes()

    signer = Signer("shop.example", "s1", SigningKey.generate(RSA))
    size = len(header) + len(body)
    say("fill a copy", busy(fill, 300), f"{size} bytes")
    say("render and build it by the email package", busy(build, 20))
    say("sign a copy, RSA-2048", busy(lambda: sign(header, body, [signer], now_ms=1_767_225_600_000), 200))


def delivery(number: int, delivery_id: int, *, campaign_id: int) -> NewDelivery:
    """The ``number``th row of a large campaign over 40 sites."""
    address = f"recipient{number}@domain{number % 1000}.example"
    place = number % 40 + 1
    return NewDelivery(
        id=delivery_id,
        tenant_id=1,
        flow_id=7,
        campaign_id=campaign_id,
        content_id=9,
        priority=10,
        domain_id=place,
        site_id=place,
        state=DeliveryState.QUEUED,
        due_ms=1000,
        expires_ms=10**13,
        accepted_ms=1000,
        address=address,
        address_key=address,
        fields='{"first_name": "Ann"}',
        envelope=None,
    )


async def large(folder: Path) -> tuple[Database, Campaign]:
    """A database with one campaign of ``ROWS`` recipients, loaded and not sealed."""
    path = folder / "large.db"
    upgrade(path)
    database = open_database(path)
    made = IdGenerator(1).take(ROWS)
    campaign = Campaign(5, 1, 7, 9, "large", "bulk", "loading", ROWS, 0, 0, made[0], made[-1], 0, 1, None, None, "")

    def start(tx: Tx) -> None:
        tenants.ensure_default(tx)
        campaigns.start_loading(tx, campaign, stream_id=2, priority=10, weight=1)

    await database.write(start)
    for first in range(0, ROWS, 500):
        part = [delivery(first + at, one, campaign_id=5) for at, one in enumerate(made[first : first + 500])]
        await timed(database, partial(queue.stage, deliveries=part))
    return database, campaign


async def timed(database: Database, work: Callable[[Tx], object]) -> float:
    """Seconds of one committed write."""
    start_s = time.perf_counter()
    await database.write(work)
    return time.perf_counter() - start_s


async def campaign_of_many(folder: Path) -> None:
    """Sealing, claiming, pausing with ``ROWS`` deliveries."""
    database, campaign = await large(folder)
    await database.write(lambda tx: campaigns.seal(tx, campaign))
    steps_s = []
    while (await database.read(lambda tx: campaigns.get(tx, 5))).state == "sealing":  # type: ignore[union-attr]  # it is there
        steps_s.append(await timed(database, lambda tx: campaigns.go_on_sealing(tx, 5, now_ms=2000)))
    say(f"seal {ROWS} deliveries: the longest step", max(steps_s), f"{len(steps_s)} steps")
    say(f"seal {ROWS} deliveries: all steps together", sum(steps_s))
    start_s = time.perf_counter()
    found = await database.read(queue.backlog)
    say(f"see what waits among {ROWS}", time.perf_counter() - start_s, f"{len(found)} (site, priority, flow)")
    one = found[0]
    lease = await database.write(lambda tx: queue.new_lease(tx, "x", 0, 10**13))
    claims_s = [
        await timed(database, lambda tx: queue.claim(tx, one, limit=100, now_ms=3000, lease_id=lease)) for _ in range(5)
    ]
    say(f"claim 100 of {ROWS}, commit included", min(claims_s))
    for state in (FlowState.PAUSED, FlowState.ACTIVE):
        seconds = await timed(database, partial(tenants.set_flow_state, flow_id=7, state=state))
        say(f"pause or resume by the flow ({state.name.lower()})", seconds)
    pause = "UPDATE delivery SET state = 8 WHERE campaign_id = 5 AND id BETWEEN ? AND ? AND state = 1"
    bounds = (campaign.first_delivery_id, campaign.last_delivery_id)
    say("pause by every delivery's row", await timed(database, lambda tx: tx.run(pause, bounds)))
    database.close()


async def journal(folder: Path) -> None:
    """A remote's 250 written down: the journal, against a sync for each."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        lines = Journal(Path(place), 0, 1)

        def note() -> None:
            for number in range(2000):
                lines.started(number)
                lines.accepted(number, "250 2.0.0 OK")

        say("outcome journal, both lines of a delivery", best(note) / 2000)
        lines.close()
    descriptor = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def sync() -> None:
        for _ in range(200):
            os.write(descriptor, b"D 1234567890 250 2.0.0 OK\n")
            os.fdatasync(descriptor)

    say("the same line with a sync", best(sync) / 200)
    os.close(descriptor)


async def start(_: Path) -> None:
    """What a role process costs to start."""
    command = [sys.executable, "-c", "import mailfleet.app.roles"]
    say("a new interpreter that imports the program", best(lambda: subprocess.run(command, check=True, cwd=ROOT)))  # noqa: S603
    import mailfleet.app.roles  # noqa: F401

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    say("a fork of one that has", best(fork, 10))


async def sql(folder: Path) -> None:
    """One row read by key: statement text on apsw, against SQLAlchemy's expression language and its ORM."""
    path = folder / "sql.db"
    upgrade(path)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    flow = schema.flow

    class Flow:
        """Mapped below."""

    sqlalchemy.orm.registry().map_imperatively(Flow, flow)
    database = open_database(path)
    await database.write(lambda tx: tx.run("INSERT INTO flow VALUES (7, 1, 2, 5, 10, 1, 2)"))

    text = await database.read(lambda tx: busy(lambda: tenants.flow(tx, 7), 500))
    say("a row by key: text on apsw", text)
    database.close()
    with engine.connect() as connection:
        core = best(lambda: [connection.execute(flow.select().where(flow.c.id == 7)).one() for _ in range(500)]) / 500
    say("a row by key: SQLAlchemy Core", core)
    with sqlalchemy.orm.Session(engine) as session:

        def read() -> None:
            session.expunge_all()
            session.get(Flow, 7)

        say("a row by key: SQLAlchemy ORM", busy(read, 500))


async def counting(folder: Path) -> None:
    """One event counted, one duration put into a histogram, one page of five roles: ours, and with prometheus-client."""
    ours = Gauges(CATALOGUE)
    counter = ours.counter("deliveries_total", outcome="delivered", provider="gmail")
    histogram = ours.histogram("attempt_seconds", provider="gmail")

    def count() -> None:
        counter.n += 1

    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Counter("a_total", "a", ["x"], registry=registry).labels("x")
    buckets = CATALOGUE["attempt_seconds"].bounds
    their_histogram = prometheus_client.Histogram("h", "h", ["x"], registry=registry, buckets=buckets).labels("x")
    say("count an event: ours", busy(count, 100_000))
    say("count an event: prometheus-client", busy(theirs.inc, 100_000))
    say("a duration into its bucket: ours", busy(lambda: histogram.observe(0.3), 100_000))
    say("a duration into its bucket: prometheus-client", busy(lambda: their_histogram.observe(0.3), 100_000))
    for provider in (f"p{number}" for number in range(30)):
        ours.histogram("attempt_seconds", provider=provider).observe(1)
        for outcome in ("delivered", "deferred", "bounced"):
            ours.counter("deliveries_total", outcome=outcome, provider=provider).n += 1
    say("write a snapshot of 120 series", best(lambda: snapshots.write(folder, "front", ours.snapshot()), 20))
    roles = [f"deliver-{number}" for number in range(5)]
    for role in roles:
        snapshots.write(folder, role, ours.snapshot())

    def page() -> None:
        exposition([found for role in roles if (found := snapshots.read(folder, role))])

    say("a page of five such roles", best(page, 10))


MEASUREMENTS = {
    "commits": commits,
    "turns": turns,
    "content": content,
    "campaign": campaign_of_many,
    "journal": journal,
    "start": start,
    "sql": sql,
    "counting": counting,
}


def main() -> None:
    """Run those named, or all."""
    for name in sys.argv[1:] or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="mailfleet-measure-") as folder:
            sys.stdout.write(f"{name}\n")
            asyncio.run(MEASUREMENTS[name](Path(folder)))


if __name__ == "__main__":
    main()
