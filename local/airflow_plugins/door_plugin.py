"""The door (local/door.py) before Airflow's UI and API, as a plugin adds it: a middleware of the whole server."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from local import door


class DoorPlugin(AirflowPlugin):  # type: ignore[misc]  # Airflow is not followed
    """Read by Airflow from its plugins folder."""

    name = "door"
    fastapi_root_middlewares: ClassVar[list[Any]] = [{"name": "door", "middleware": door.Asgi}]
