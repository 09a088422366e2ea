"""The CloudEvents SDK on Redis: sends what it is asked to, and writes down what it hears.

Arguments: the server's port, the channel.
"""

import json
import sys
import threading
from datetime import datetime, timezone

import redis
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

server = redis.Redis(port=int(sys.argv[1]))
channel = sys.argv[2]
hearing = server.pubsub(ignore_subscribe_messages=True)
hearing.subscribe(channel)
lock = threading.Lock()


def say(what):
    with lock:
        print(json.dumps(what, default=str), flush=True)


def hear():
    for message in hearing.listen():
        event = JSONFormat().read(None, message["data"])
        say({"attributes": event.get_attributes(), "data": event.get_data()})


# Until the server has confirmed it, what is published may pass by.
while hearing.get_message(timeout=1) is not None or not hearing.subscribed:
    pass
threading.Thread(target=hear, daemon=True).start()
say("ready")
for line in sys.stdin:
    asked = json.loads(line)
    data = asked.pop("data")
    if asked.pop("binary", False):
        data = json.dumps(data).encode()
    attributes = {"time": datetime.now(timezone.utc), **asked}
    event = CloudEvent(attributes, data)
    server.publish(channel, JSONFormat().write(event))
    say("published")
