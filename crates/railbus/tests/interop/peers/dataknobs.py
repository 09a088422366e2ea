"""A program on dataknobs' own bus: publishes what it reads, writes down what it hears.

Arguments: the bus's settings as JSON, then the topics it listens on.
"""

import asyncio
import json
import sys

from dataknobs_common.events import Event, EventType, create_event_bus


def say(what):
    print(json.dumps(what), flush=True)


async def main():
    bus = create_event_bus(json.loads(sys.argv[1]))
    await bus.connect()

    async def hear(event):
        say(event.to_dict())

    for topic in sys.argv[2:]:
        await bus.subscribe(topic, hear)
    say("ready")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        event = Event(type=EventType(asked.pop("type")), **asked)
        await bus.publish(event.topic, event)
        say("published")
    await bus.close()


asyncio.run(main())
