"""A real Kafka broker in one JVM: KRaft, SASL/PLAIN as the managed service has it, loopback only.

`spec` describes it to the supervisor; `python -m local.kafka` is the process, which formats its storage on the first
start and then becomes the JVM. Data are under `<state>/kafka` and outlive a restart, on other ports as well.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from local import log4j
from local.jars import class_path, java_tool, pyspark_jars
from local.supervisor import ServiceSpec

API_KEY = "lakehouse"
API_SECRET = "local-secret"
TOPIC = "orders_events"
PARTITIONS = 3
#: Jars that the broker shares with Spark, log4j's first: without them it logs nothing.
SPARK_JARS = (
    "log4j-slf4j2-impl-",
    "log4j-core-",
    "log4j-api-",
    "slf4j-api-",
    "scala-library-",
    "scala-reflect-",
    "lz4-java-",
    "snappy-java-",
    "zstd-jni-",
)
JAVA_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)


def spec(state: Path, ports: dict[str, int], env: dict[str, str]) -> ServiceSpec:
    """How the supervisor starts the broker; it is ready when it answers and has the topic of the orders."""
    java_tool()
    class_path("broker")  # both say what to type where something is missing
    bootstrap = f"127.0.0.1:{ports['kafka']}"
    argv = [sys.executable, "-m", "local.kafka", "--state", str(state)]
    argv += ["--port", str(ports["kafka"]), "--controller-port", str(ports["kafka_controller"])]

    def ready() -> bool:
        try:
            socket.create_connection(("127.0.0.1", ports["kafka"]), timeout=1).close()
        except OSError:
            return False
        return create_topic(bootstrap, TOPIC, PARTITIONS)

    return ServiceSpec("kafka", argv, env, ready, {"LOCAL_KAFKA_BOOTSTRAP": bootstrap})


def client_options(bootstrap: str) -> dict[str, Any]:
    """What a librdkafka client needs to get in."""
    return {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": API_KEY,
        "sasl.password": API_SECRET,
    }


def create_topic(bootstrap: str, topic: str, partitions: int = 1) -> bool:
    """Create the topic unless it exists; False where the broker does not answer (yet)."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    # The client has to outlive its answers; its own complaints while the broker starts are of no use to anybody.
    admin = AdminClient(client_options(bootstrap) | {"log_level": 0, "error_cb": lambda _: None})
    try:
        (done,) = admin.create_topics([NewTopic(topic, partitions, 1)], request_timeout=5).values()
        done.result(timeout=10)
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
    except TimeoutError:
        return False
    return True


def server_properties(data: str, port: int, controller_port: int) -> str:
    """The broker's settings: one node that is everything, and keeps what it is given, in the folder ``data``."""
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    login += f' username="{API_KEY}" password="{API_SECRET}" user_{API_KEY}="{API_SECRET}";'
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": login,
        "log.dirs": data,
        # Retention goes by the records' own time: sample orders of last year would vanish at once.
        "log.retention.ms": -1,
        # The sample's last day may end later than now, and its second day is tomorrow.
        "log.message.timestamp.after.max.ms": 9223372036854775807,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # Internal topics for one node; Kafka's 50 partitions each are files and seconds for nothing.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "num.network.threads": 2,
        "num.io.threads": 2,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def java_command(home: Path) -> list[str]:
    shared = [str(jar) for name in SPARK_JARS for jar in sorted(pyspark_jars().glob(f"{name}*.jar"))]
    return [
        java_tool(),
        *JAVA_OPTIONS,
        log4j.option(home / "log4j2.properties"),
        "-cp",
        os.pathsep.join([*shared, class_path("broker")]),
    ]


def format_storage(home: Path, data: Path, port: int, controller_port: int) -> None:
    """Kafka's own format, into a directory that gets its name when it is whole."""
    part = home / "data.part"
    shutil.rmtree(part, ignore_errors=True)
    properties = home / "format.properties"
    properties.write_text(server_properties(part.name, port, controller_port))
    # Kafka refuses an id that begins with a dash: a command line would read it as an option.
    while (cluster := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    tool = [*java_command(home), "kafka.tools.StorageTool", "format", "--standalone"]
    subprocess.run([*tool, "-t", cluster, "-c", str(properties)], check=True)
    properties.unlink()
    part.rename(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--controller-port", type=int, required=True)
    arguments = parser.parse_args()
    home = (arguments.state / "kafka").resolve()
    home.mkdir(parents=True, exist_ok=True)
    # Storage is named relative to it: a list of folders takes no path with a comma, a file of properties no umlaut.
    os.chdir(home)
    (home / "log4j2.properties").write_text(log4j.properties())
    data = home / "data"
    if not data.exists():
        format_storage(home, data, arguments.port, arguments.controller_port)
    properties = home / "server.properties"
    properties.touch(mode=0o600)
    properties.write_text(server_properties(data.name, arguments.port, arguments.controller_port))
    command = [*java_command(home), "kafka.Kafka", str(properties)]
    # The supervisor's pid becomes the broker's: SIGTERM reaches it, which closes its logs.
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
