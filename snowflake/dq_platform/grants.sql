-- The user, role and warehouse of the DQ platform, and what the role may read. Run from top to bottom, once, by somebody
-- who has the roles named; every statement may be repeated. SALES stands for each database that is to be checked,
-- 203.0.113.7 for the addresses of `terraform output nat_addresses`.
--
-- The role reads: USAGE on what is around tables, SELECT on tables and views, nothing else. Tables that it may not read
-- are not found, and so not checked. A database that came by a share has IMPORTED PRIVILEGES in place of these grants.
-- Tests parse this file and look at what it grants; it was not executed in an account.

USE ROLE USERADMIN;
CREATE ROLE IF NOT EXISTS DQ_PLATFORM COMMENT = 'Reads what the DQ platform checks';
-- TYPE = SERVICE: no password, no second factor, nobody signs in to the web interface as it.
CREATE USER IF NOT EXISTS DQ_PLATFORM TYPE = SERVICE DEFAULT_ROLE = DQ_PLATFORM DEFAULT_WAREHOUSE = DQ_PLATFORM
  COMMENT = 'The Lambda function dq-platform-runner';
GRANT ROLE DQ_PLATFORM TO USER DQ_PLATFORM;

USE ROLE SYSADMIN;
-- A warehouse of its own: what the checks cost is seen, bounded, and taken from nobody.
CREATE WAREHOUSE IF NOT EXISTS DQ_PLATFORM WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE
  INITIALLY_SUSPENDED = TRUE STATEMENT_TIMEOUT_IN_SECONDS = 900;
GRANT USAGE ON WAREHOUSE DQ_PLATFORM TO ROLE DQ_PLATFORM;

USE ROLE SECURITYADMIN;
GRANT USAGE ON DATABASE SALES TO ROLE DQ_PLATFORM;
GRANT USAGE ON ALL SCHEMAS IN DATABASE SALES TO ROLE DQ_PLATFORM;
GRANT USAGE ON FUTURE SCHEMAS IN DATABASE SALES TO ROLE DQ_PLATFORM;
GRANT SELECT ON ALL TABLES IN DATABASE SALES TO ROLE DQ_PLATFORM;
GRANT SELECT ON ALL VIEWS IN DATABASE SALES TO ROLE DQ_PLATFORM;
-- Future grants on a schema go before these of its database: where a schema has some, grant the same there.
GRANT SELECT ON FUTURE TABLES IN DATABASE SALES TO ROLE DQ_PLATFORM;
GRANT SELECT ON FUTURE VIEWS IN DATABASE SALES TO ROLE DQ_PLATFORM;
-- Where the user may come from. A programmatic access token is refused without such a policy.
CREATE NETWORK POLICY IF NOT EXISTS DQ_PLATFORM ALLOWED_IP_LIST = ('203.0.113.7');
ALTER USER DQ_PLATFORM SET NETWORK_POLICY = DQ_PLATFORM;

USE ROLE ACCOUNTADMIN;
CREATE RESOURCE MONITOR IF NOT EXISTS DQ_PLATFORM WITH CREDIT_QUOTA = 30 FREQUENCY = MONTHLY
  START_TIMESTAMP = IMMEDIATELY TRIGGERS ON 80 PERCENT DO NOTIFY ON 100 PERCENT DO SUSPEND;
ALTER WAREHOUSE DQ_PLATFORM SET RESOURCE_MONITOR = DQ_PLATFORM;
