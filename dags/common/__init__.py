"""What the DAGs share. Needs Airflow and the amazon provider only, so that DAG files import on any worker."""
