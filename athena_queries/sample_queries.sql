-- 21 questions to the lake, in Athena's dialect. Each has a name, and what it answers on the line after it.
--
--   make query Q=orders_by_status                  on a laptop
--   Athena's editor, workgroup lakehouse           on AWS: copy a statement as it is
--
-- Every answer is tested on DuckDB and on Trino (docs/analysts.md). What keeps them equal: shares and averages are
-- computed in doubles and rounded; instants are cast to timestamp, because a Delta timestamp has a zone in Athena;
-- every ORDER BY ends in something unique. Athena reads whole milliseconds.

-- section: exploration

-- name: gold_tables
-- How many rows has each Gold table, of how many publications, and which is the latest?
SELECT 'dim_customers' AS table_name, count(*) AS row_count,
       count(DISTINCT _publish_id) AS publications, max(_publish_id) AS latest_publication
FROM lakehouse_gold.dim_customers
UNION ALL
SELECT 'dim_fx', count(*), count(DISTINCT _publish_id), max(_publish_id)
FROM lakehouse_gold.dim_fx
UNION ALL
SELECT 'fact_orders', count(*), count(DISTINCT _publish_id), max(_publish_id)
FROM lakehouse_gold.fact_orders
ORDER BY table_name;

-- name: newest_data
-- How many rows has each Silver table, and of when is the newest (UTC)?
SELECT 'fx_rates' AS table_name, count(*) AS row_count, CAST(max(as_of_date) AS timestamp) AS newest
FROM lakehouse_silver.fx_rates
UNION ALL
SELECT 'hubspot_contacts', count(*), CAST(max(modified_at) AS timestamp)
FROM lakehouse_silver.hubspot_contacts
UNION ALL
SELECT 'orders', count(*), CAST(max(event_ts) AS timestamp)
FROM lakehouse_silver.orders
UNION ALL
SELECT 'salesforce_accounts', count(*), CAST(max(modified_at) AS timestamp)
FROM lakehouse_silver.salesforce_accounts
UNION ALL
SELECT 'salesforce_leads', count(*), CAST(max(modified_at) AS timestamp)
FROM lakehouse_silver.salesforce_leads
UNION ALL
SELECT 'vendor_shipments', count(*), CAST(max(coalesce(delivered_at, shipped_at)) AS timestamp)
FROM lakehouse_silver.vendor_shipments
ORDER BY table_name;

-- name: orders_by_status
-- How many orders are in each state, and what are they worth in US dollars?
SELECT status, count(*) AS orders, sum(amount_usd) AS usd
FROM lakehouse_gold.fact_orders
GROUP BY status
ORDER BY status;

-- section: business intelligence

-- name: revenue_by_month
-- What did each month bring, cancelled orders left out; how many of its orders have no price in US dollars?
SELECT date_format(order_date, '%Y-%m') AS month, count(*) AS orders, sum(amount_usd) AS usd,
       round(CAST(sum(amount_usd) AS double) / nullif(count(amount_usd), 0), 2) AS usd_per_order,
       count(*) - count(amount_usd) AS unpriced
FROM lakehouse_gold.fact_orders
WHERE status <> 'CANCELLED'
GROUP BY 1
ORDER BY 1;

-- name: revenue_by_currency
-- What did each currency bring, and between which rates of the orders' days did it move?
SELECT f.currency, count(*) AS orders, sum(f.amount_native) AS amount_native, sum(f.amount_usd) AS usd,
       min(x.rate_to_base) AS lowest_rate, max(x.rate_to_base) AS highest_rate
FROM lakehouse_gold.fact_orders f
LEFT JOIN lakehouse_gold.dim_fx x ON x.as_of_date = f.order_date AND x.ccy = f.currency
WHERE f.status <> 'CANCELLED'
GROUP BY f.currency
ORDER BY usd DESC NULLS LAST, f.currency;

-- name: revenue_by_country
-- Which countries do the orders come from, and which share of the revenue (percent) is theirs?
SELECT coalesce(c.country, '(unknown)') AS country, count(DISTINCT f.customer_id) AS customers,
       count(*) AS orders, sum(f.amount_usd) AS usd,
       round(100 * CAST(sum(f.amount_usd) AS double) / CAST(sum(sum(f.amount_usd)) OVER () AS double), 1) AS share
FROM lakehouse_gold.fact_orders f
LEFT JOIN lakehouse_gold.dim_customers c ON c.id = f.customer_id
WHERE f.status <> 'CANCELLED'
GROUP BY 1
ORDER BY usd DESC NULLS LAST, 1;

-- name: top_customers
-- Who are the ten best customers, how many contacts do we have there, when did they order last?
SELECT c.id, c.name, c.country, c.industry, c.contacts, count(*) AS orders, sum(f.amount_usd) AS usd,
       max(f.order_date) AS last_order
FROM lakehouse_gold.fact_orders f
JOIN lakehouse_gold.dim_customers c ON c.id = f.customer_id
WHERE f.status <> 'CANCELLED'
GROUP BY c.id, c.name, c.country, c.industry, c.contacts
ORDER BY usd DESC NULLS LAST, c.id
LIMIT 10;

-- name: shipments_by_carrier
-- How reliable is each carrier: shipments, delivered, returned, hours from shipping to delivery?
SELECT coalesce(carrier, '(unknown)') AS carrier_name, count(*) AS shipments,
       sum(CASE WHEN delivered_at IS NOT NULL THEN 1 ELSE 0 END) AS delivered,
       sum(CASE WHEN status = 'RETURNED' THEN 1 ELSE 0 END) AS returned,
       round(avg(to_unixtime(delivered_at) - to_unixtime(shipped_at)) / 3600, 1) AS hours
FROM lakehouse_silver.vendor_shipments
GROUP BY 1
ORDER BY shipments DESC, 1;

-- section: quality validation

-- name: duplicate_order_events
-- Which events of an order are there twice, by (order_id, event_ts)? Two payloads may be two events of one millisecond.
SELECT order_id, CAST(event_ts AS timestamp) AS event_time, count(*) AS events,
       count(DISTINCT _payload_hash) AS payloads, count(DISTINCT _run_id) AS runs
FROM lakehouse_silver.orders
GROUP BY order_id, event_ts
HAVING count(*) > 1
ORDER BY order_id, event_time;

-- name: one_publication
-- Do orders meet customers and rates of their own publication? A line with false: the join met one half-way, ask again.
SELECT f._publish_id AS fact_orders, c._publish_id AS dim_customers, x._publish_id AS dim_fx, count(*) AS orders,
       coalesce(c._publish_id, f._publish_id) = f._publish_id
         AND coalesce(x._publish_id, f._publish_id) = f._publish_id AS one_publication
FROM lakehouse_gold.fact_orders f
LEFT JOIN lakehouse_gold.dim_customers c ON c.id = f.customer_id
LEFT JOIN lakehouse_gold.dim_fx x ON x.as_of_date = f.order_date AND x.ccy = f.currency
GROUP BY f._publish_id, c._publish_id, x._publish_id
ORDER BY f._publish_id, c._publish_id NULLS LAST, x._publish_id NULLS LAST;

-- name: unknown_customers
-- Which customers of orders does dim_customers not know, the twenty with most orders first?
SELECT coalesce(f.customer_id, '(none)') AS customer, count(*) AS orders, sum(f.amount_usd) AS usd,
       min(f.order_date) AS first_order, max(f.order_date) AS last_order
FROM lakehouse_gold.fact_orders f
LEFT JOIN lakehouse_gold.dim_customers c ON c.id = f.customer_id
WHERE c.id IS NULL
GROUP BY 1
ORDER BY orders DESC, 1
LIMIT 20;

-- name: unpriced_orders
-- Which days and currencies have orders without a price in US dollars, and of when is the latest quote before them?
WITH unpriced AS (
  SELECT order_date, currency, count(*) AS orders, sum(amount_native) AS amount_native
  FROM lakehouse_gold.fact_orders
  WHERE amount_usd IS NULL
  GROUP BY order_date, currency
)
SELECT u.order_date, u.currency, u.orders, u.amount_native, max(q.as_of_date) AS latest_quote
FROM unpriced u
LEFT JOIN lakehouse_silver.fx_rates q ON q.ccy = u.currency AND q.as_of_date <= u.order_date
GROUP BY u.order_date, u.currency, u.orders, u.amount_native
ORDER BY u.order_date DESC, u.currency;

-- name: open_quarantine
-- Which rules refused rows that nobody has fixed, replayed or discarded, and since when (UTC)?
WITH events AS (
  SELECT table_name, run_id, position, status, reasons, occurred_at, coalesce(step, 0) AS step
  FROM lakehouse_ops.quarantine
  UNION ALL
  SELECT 'bronze.kafka_orders', _run_id, _position, 'open', reasons, _landed_at, 0
  FROM lakehouse_ops.kafka_orders_dlq
),
states AS (
  SELECT *, row_number() OVER (
           PARTITION BY table_name, run_id, position
           ORDER BY CASE status WHEN 'replayed' THEN 0 WHEN 'discarded' THEN 1 ELSE 2 END, step DESC) AS nth
  FROM events
)
SELECT e.table_name, split_part(r.reason, ': ', 1) AS rule, count(*) AS refused,
       CAST(min(e.occurred_at) AS timestamp) AS oldest
FROM states e
CROSS JOIN UNNEST(e.reasons) AS r (reason)
WHERE e.nth = 1 AND e.status = 'open'
GROUP BY e.table_name, split_part(r.reason, ': ', 1)
ORDER BY e.table_name, rule;

-- name: latest_verdicts
-- What was said of each table, the last five times (by gates; housekeeping repeats them), and of how many runs?
WITH verdicts AS (
  SELECT table_name, outcome, version, certified_run_ids, window_to, created_at,
         row_number() OVER (PARTITION BY table_name ORDER BY created_at DESC, verdict_id DESC) AS nth
  FROM lakehouse_ops.dq_verdicts
)
SELECT table_name, nth, outcome, version, cardinality(certified_run_ids) AS certified_runs,
       CAST(window_to AS timestamp) AS certified_up_to, CAST(created_at AS timestamp) AS judged_at
FROM verdicts
WHERE nth <= 5
ORDER BY table_name, nth;

-- section: performance monitoring

-- name: latest_jobs
-- Which jobs ran last, how long did they take, how did they end?
SELECT job, status, round(seconds, 1) AS took_seconds, error_code, CAST(started_at AS timestamp) AS started,
       run_id
FROM lakehouse_ops.job_runs
WHERE job <> 'athena'
ORDER BY started DESC, job, run_id
LIMIT 13;

-- name: row_ledger
-- Where did the rows of each table's latest load go, and is every one accounted for?
WITH entries AS (
  SELECT *, row_number() OVER (PARTITION BY table_name ORDER BY recorded_at DESC, run_id DESC, job) AS nth
  FROM lakehouse_ops.row_ledger
)
SELECT table_name, "read", generated, inserted, updated, unchanged, quarantined, duplicates, superseded, conflicts,
       "read" + generated
         = inserted + updated + unchanged + quarantined + duplicates + superseded + conflicts AS balanced, run_id
FROM entries
WHERE nth = 1
ORDER BY table_name;

-- name: cost_by_job
-- What does each job cost, how long does it take at most, how often did it fail, how many runs have no bill yet?
SELECT job, count(*) AS runs, sum(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed,
       round(max(CASE WHEN job <> 'athena' THEN seconds END), 1) AS longest_seconds, sum(vcpu_hours) AS vcpu_hours,
       sum(memory_gb_hours) AS memory_gb_hours, sum(cost_usd) AS usd, count(*) - count(cost_usd) AS unbilled
FROM lakehouse_ops.job_runs
GROUP BY job
ORDER BY usd DESC NULLS LAST, job;

-- name: cost_by_day
-- What did each of the last 31 days on which jobs ended cost, Athena's queries among it, and which job most?
WITH jobs AS (
  SELECT CAST(finished_at AS date) AS ended_on, job, sum(CASE WHEN job = 'athena' THEN 0 ELSE 1 END) AS runs,
         sum(cost_usd) AS usd
  FROM lakehouse_ops.job_runs
  GROUP BY CAST(finished_at AS date), job
),
ranked AS (
  SELECT ended_on, job, runs, usd,
         row_number() OVER (PARTITION BY ended_on ORDER BY usd DESC NULLS LAST, job) AS nth
  FROM jobs
)
SELECT ended_on, sum(runs) AS job_runs, sum(usd) AS usd, max(CASE WHEN nth = 1 THEN job END) AS dearest_job,
       max(CASE WHEN nth = 1 THEN usd END) AS dearest_usd
FROM ranked
GROUP BY ended_on
ORDER BY ended_on DESC
LIMIT 31;

-- name: recoveries
-- Who changed which table by a recovery, why, and what did readers see of it? The last ten.
SELECT CAST(recorded_at AS timestamp) AS recorded, action, table_name, requested_by, reason,
       before_version, after_version, rows_added, rows_removed, rows_changed
FROM lakehouse_ops.recovery_log
ORDER BY recorded DESC, run_id DESC, table_name
LIMIT 10;

-- section: KPIs

-- name: kpi_overview
-- The business on one line: orders, customers, revenue, value of an order, and the shares (percent) to keep an eye on.
SELECT count(*) AS orders, count(DISTINCT customer_id) AS customers,
       sum(CASE WHEN status <> 'CANCELLED' THEN amount_usd END) AS usd,
       round(avg(CASE WHEN status <> 'CANCELLED' THEN CAST(amount_usd AS double) END), 2) AS usd_per_order,
       round(100e0 * sum(CASE WHEN status = 'CANCELLED' THEN 1 ELSE 0 END) / count(*), 1) AS cancelled_share,
       round(100e0 * sum(CASE WHEN delivered_at IS NOT NULL THEN 1 ELSE 0 END) / count(*), 1) AS delivered_share,
       round(100e0 * (count(*) - count(amount_usd)) / count(*), 1) AS unpriced_share,
       round(100e0 * sum(CASE WHEN is_known_customer THEN 0 ELSE 1 END) / count(*), 1) AS unknown_customer_share
FROM lakehouse_gold.fact_orders
HAVING count(*) > 0;

-- name: kpi_by_day
-- The last fourteen days with orders: orders, customers and revenue of the day, and revenue of the seven days up to it.
WITH days AS (
  SELECT order_date, count(*) AS orders, count(DISTINCT customer_id) AS customers, sum(amount_usd) AS usd
  FROM lakehouse_gold.fact_orders
  WHERE status <> 'CANCELLED'
  GROUP BY order_date
)
SELECT order_date, orders, customers, usd,
       sum(usd) OVER (
         ORDER BY order_date RANGE BETWEEN INTERVAL '6' DAY PRECEDING AND CURRENT ROW
       ) AS usd_of_seven_days
FROM days
ORDER BY order_date DESC
LIMIT 14;
