# -- where ----------------------------------------------------------------------------------------------------

variable "account_id" {
  description = "The AWS account, twelve digits. Credentials of another one are refused."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id has to be twelve digits, e.g. \"123456789012\"."
  }
}

variable "region" {
  description = "The Region of everything."
  type        = string
  default     = "eu-central-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-gov)?-[a-z]+-[0-9]$", var.region))
    error_message = "region has to be the name of a Region, e.g. \"eu-central-1\"."
  }
}

variable "environment" {
  description = "dev or prod. One account holds one environment: databases, workgroup and secrets have the names that the jobs' settings say."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment has to be dev or prod."
  }
}

variable "project" {
  description = "First part of every name. The jobs' settings expect lakehouse."
  type        = string
  default     = "lakehouse"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,15}$", var.project))
    error_message = "project has to be 3 to 16 lower-case letters and digits, a letter first."
  }
}

variable "tags" {
  description = "Tags of every resource, beside Project, Environment and ManagedBy."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.tags), ["Project", "Environment", "ManagedBy"])) == 0
    error_message = "tags must not hold Project, Environment or ManagedBy: they are set already."
  }
}

# -- encryption and identities --------------------------------------------------------------------------------

variable "encryption" {
  description = "aws:kms makes a key of our own for data, secrets, logs and notices; AES256 leaves it to the services' keys."
  type        = string
  default     = "aws:kms"
  nullable    = false

  validation {
    condition     = contains(["aws:kms", "AES256"], var.encryption)
    error_message = "encryption has to be aws:kms or AES256."
  }
}

variable "permissions_boundary_arn" {
  description = "A policy that bounds every role made here, where the account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn has to be the ARN of an IAM policy."
  }
}

variable "account_baseline" {
  description = "CloudTrail with data events of the lake, GuardDuty with S3 protection, Access Analyzer, no public buckets: for the account. On in prod unless false; false where the organisation has them."
  type        = bool
  default     = null
}

variable "secret_rotation_lambda_arns" {
  description = "The function that rotates a source's secret, by source (hubspot, kafka, salesforce, snowflake, dq_platform). A source without one is rotated by its owner."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for source, arn in var.secret_rotation_lambda_arns :
      contains(["hubspot", "kafka", "salesforce", "snowflake", "dq_platform"], source) && can(regex("^arn:aws[a-z-]*:lambda:", arn))
    ])
    error_message = "secret_rotation_lambda_arns maps hubspot, kafka, salesforce, snowflake or dq_platform to the ARN of a Lambda function."
  }
}

variable "secret_rotation_days" {
  description = "How often a secret with a function is rotated."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.secret_rotation_days >= 1 && var.secret_rotation_days <= 365
    error_message = "secret_rotation_days has to be 1 to 365."
  }
}

# -- the lake -------------------------------------------------------------------------------------------------

variable "force_destroy" {
  description = "Whether destroy may remove buckets with what they hold, and secrets at once. For environments that can be lost."
  type        = bool
  default     = false
  nullable    = false
}

variable "landing_retention_days" {
  description = "How long landing files are kept: the contracts' landingRetention (a test compares them)."
  type        = number
  default     = 400
  nullable    = false

  validation {
    condition     = var.landing_retention_days >= 60
    error_message = "landing_retention_days has to be 60 or more: a replay reads landing files."
  }
}

variable "noncurrent_version_days" {
  description = "How long overwritten and deleted objects can still be brought back, in every bucket."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_version_days >= 7
    error_message = "noncurrent_version_days has to be 7 or more."
  }
}

variable "outcome_retention_days" {
  description = "How long outcomes of runs (runs/) and lineage events (ops/_lineage/) are kept."
  type        = number
  default     = 400
  nullable    = false

  validation {
    condition     = var.outcome_retention_days >= 60
    error_message = "outcome_retention_days has to be 60 or more: recovery reads the outcomes of earlier runs."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept, in CloudWatch and in the logs bucket; a number of days that CloudWatch offers."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827], var.log_retention_days)
    error_message = "log_retention_days has to be 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096 or 1827."
  }
}

variable "athena_scan_limit_gb" {
  description = "A query that would read more is cancelled."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.athena_scan_limit_gb >= 1 && var.athena_scan_limit_gb <= 10000
    error_message = "athena_scan_limit_gb has to be 1 to 10000."
  }
}

# -- network --------------------------------------------------------------------------------------------------

variable "vpc_cidr" {
  description = "Addresses of the VPC, /16 to /22: cut into four public and four private parts."
  type        = string
  default     = "10.40.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr has to be an IPv4 range of /16 to /22, e.g. \"10.40.0.0/16\"."
  }
}

variable "availability_zones" {
  description = "Letters of the two zones used."
  type        = list(string)
  default     = ["a", "b"]
  nullable    = false

  validation {
    condition     = length(distinct(var.availability_zones)) == 2 && length(var.availability_zones) == 2 && alltrue([for z in var.availability_zones : can(regex("^[a-f]$", z))])
    error_message = "availability_zones has to be two different letters, a to f: MWAA takes exactly two subnets."
  }
}

variable "nat_gateways" {
  description = "0: no way out (sources on the internet cannot be read); 1: one for both zones; 2: one each."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([0, 1, 2], var.nat_gateways)
    error_message = "nat_gateways has to be 0, 1 or 2."
  }

  validation {
    condition     = var.nat_gateways != 0 || length(setsubtract(local.services_asked, var.interface_endpoints)) == 0
    error_message = "Without NAT every AWS service that jobs, Airflow and services ask needs an endpoint. interface_endpoints lacks ${join(", ", setsubtract(local.services_asked, var.interface_endpoints))}."
  }
}

variable "interface_endpoints" {
  description = "AWS services reached inside the VPC. Each costs by the hour and zone; what is left out goes through NAT."
  type        = set(string)
  default     = ["kms", "logs", "monitoring", "secretsmanager", "sts"]
  nullable    = false

  validation {
    condition = alltrue([for s in var.interface_endpoints : contains([
      "airflow.api", "airflow.env", "airflow.ops", "athena", "ecr.api", "ecr.dkr", "emr-serverless", "events", "glue",
      "kms", "logs", "monitoring", "secretsmanager", "sns", "sqs", "sts",
    ], s)])
    error_message = "interface_endpoints may hold airflow.api, airflow.env, airflow.ops, athena, ecr.api, ecr.dkr, emr-serverless, events, glue, kms, logs, monitoring, secretsmanager, sns, sqs and sts."
  }
}

variable "kafka_ports" {
  description = "Ports of the Kafka brokers, which jobs may connect to."
  type        = set(number)
  default     = [9092]
  nullable    = false

  validation {
    condition     = alltrue([for p in var.kafka_ports : p >= 1024 && p <= 65535])
    error_message = "kafka_ports have to be 1024 to 65535."
  }
}

variable "kafka_mode" {
  description = "batch or stream, as sources.kafka.mode of config/<environment>.yaml says."
  type        = string
  default     = "batch"
  nullable    = false

  validation {
    condition     = contains(["batch", "stream"], var.kafka_mode)
    error_message = "kafka_mode has to be batch or stream."
  }
}

# -- EMR Serverless -------------------------------------------------------------------------------------------

variable "emr_release_label" {
  description = "Release of EMR Serverless. The jobs are written for Spark 4.1 with Delta 4.2."
  type        = string
  default     = "emr-spark-8.2.0"
  nullable    = false

  validation {
    condition     = can(regex("^emr-spark-[0-9]+\\.[0-9]+\\.[0-9]+$", var.emr_release_label))
    error_message = "emr_release_label has to be emr-spark-<major>.<minor>.<patch>."
  }
}

variable "emr_architecture" {
  description = "X86_64 or ARM64; the Python archive has to be built for the same one (scripts/build_zip.sh --platform)."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.emr_architecture)
    error_message = "emr_architecture has to be X86_64 or ARM64."
  }
}

variable "emr_image_uri" {
  description = "An image in ECR in place of the release's own; null: the release's."
  type        = string
  default     = null

  validation {
    condition     = var.emr_image_uri == null || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com/[^@:]+(:[^:]+|@sha256:[0-9a-f]{64})$", var.emr_image_uri))
    error_message = "emr_image_uri has to be an image of ECR with a tag or a digest."
  }
}

variable "emr_initial_workers" {
  description = "Workers kept warm while the application is started: drivers and executors. 0 and 0: none, a job waits a minute more."
  type        = object({ drivers = number, executors = number })
  default     = { drivers = 0, executors = 0 }
  nullable    = false

  validation {
    condition     = var.emr_initial_workers.drivers >= 0 && var.emr_initial_workers.executors >= 0 && (var.emr_initial_workers.drivers > 0) == (var.emr_initial_workers.executors > 0)
    error_message = "emr_initial_workers has to be 0 and 0, or at least one of each."
  }
}

variable "emr_worker" {
  description = "Size of a warm worker: vCPU, memory and disk in GB. That of a job's workers (emr_configs/sizes.yaml), for a job takes no smaller one."
  type        = object({ cpu = number, memory_gb = number, disk_gb = number })
  default     = { cpu = 2, memory_gb = 8, disk_gb = 20 }
  nullable    = false

  # The sizes that EMR Serverless has (its user guide, Supported worker configurations).
  validation {
    condition     = var.emr_worker.memory_gb >= 2 * var.emr_worker.cpu && var.emr_worker.memory_gb <= lookup({ 1 = 8, 2 = 16, 4 = 30, 8 = 60, 16 = 120 }, tostring(var.emr_worker.cpu), 0) && var.emr_worker.memory_gb % lookup({ 8 = 4, 16 = 8 }, tostring(var.emr_worker.cpu), 1) == 0
    error_message = "emr_worker has to have 1, 2, 4, 8 or 16 vCPU and 2 GB a vCPU or more, up to 8, 16, 30, 60 or 120 GB; with 8 vCPU in steps of 4 GB, with 16 of 8."
  }

  validation {
    condition     = var.emr_worker.disk_gb >= 20 && var.emr_worker.disk_gb <= 200
    error_message = "emr_worker has to have 20 to 200 GB of disk."
  }
}

variable "emr_maximum_capacity" {
  description = "What all job runs together may take (emr_configs/sizes.yaml times the pools), within the account's quota of vCPU (L-D05C8A75, 16 at first). It is no queue: a job run without room for its driver and one executor fails."
  type        = object({ cpu = number, memory_gb = number, disk_gb = number })
  default     = { cpu = 64, memory_gb = 256, disk_gb = 1000 }
  nullable    = false

  validation {
    condition     = var.emr_maximum_capacity.cpu >= 8 && var.emr_maximum_capacity.memory_gb >= 2 * var.emr_maximum_capacity.cpu && var.emr_maximum_capacity.disk_gb >= 40
    error_message = "emr_maximum_capacity has to have 8 vCPU or more, 2 GB a vCPU or more, and 40 GB of disk or more: a driver and an executor."
  }
}

variable "emr_auto_stop_minutes" {
  description = "The application stops, and warm workers cost nothing more, when it has been idle this long."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.emr_auto_stop_minutes >= 1 && var.emr_auto_stop_minutes <= 10080
    error_message = "emr_auto_stop_minutes has to be 1 to 10080."
  }
}

# -- Airflow --------------------------------------------------------------------------------------------------

variable "enable_orchestration" {
  description = "MWAA. It needs dags/ in the code bucket: `make deploy` first without it, then `make build-all`, then with it."
  type        = bool
  default     = false
  nullable    = false
}

variable "airflow_version" {
  description = "Airflow of MWAA; the DAGs are written for it, with the packages of its image (requirements/airflow.in)."
  type        = string
  default     = "3.0.6"
  nullable    = false

  validation {
    condition     = can(regex("^3\\.[0-9]+\\.[0-9]+$", var.airflow_version))
    error_message = "airflow_version has to be a release of Airflow 3."
  }
}

variable "mwaa" {
  description = "Size of MWAA: class, workers, when its weekly maintenance begins (DAY:HH:MM, UTC)."
  type = object({
    environment_class = string
    min_workers       = number
    max_workers       = number
    maintenance_start = string
  })
  default = {
    environment_class = "mw1.small"
    min_workers       = 1
    max_workers       = 2
    maintenance_start = "SUN:10:00"
  }
  nullable = false

  validation {
    condition     = can(regex("^mw1\\.(micro|small|medium|large|xlarge|2xlarge)$", var.mwaa.environment_class)) && var.mwaa.min_workers >= 1 && var.mwaa.max_workers >= var.mwaa.min_workers && var.mwaa.max_workers <= 25 && can(regex("^(MON|TUE|WED|THU|FRI|SAT|SUN):([01][0-9]|2[0-3]):(00|30)$", var.mwaa.maintenance_start))
    error_message = "mwaa has to have a class mw1.micro to mw1.2xlarge, 1 <= min_workers <= max_workers <= 25, and a start like SUN:10:00."
  }

  validation {
    condition     = var.mwaa.environment_class != "mw1.micro" || var.mwaa.max_workers == 1
    error_message = "mwaa: mw1.micro has one worker and no more; max_workers has to be 1."
  }
}

# -- who is told, and what may be spent -----------------------------------------------------------------------

variable "alert_emails" {
  description = "Who hears of failures. Each address has to confirm once."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for a in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", a))])
    error_message = "alert_emails have to be addresses."
  }
}

variable "monthly_budget_usd" {
  description = "Notices at 80 % spent and 100 % forecast of this."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.monthly_budget_usd > 0
    error_message = "monthly_budget_usd has to be more than 0."
  }
}

variable "lake_formation_tags" {
  description = "The LF tag classification, and the right of the batch jobs to put it on columns. The settings name it too: lake_formation.classification_tag."
  type        = bool
  default     = false
  nullable    = false
}

# -- services, off until their code is there --------------------------------------------------------------------

variable "enable_dq_platform" {
  description = "The DQ runner (Lambda, daily at 06:00 UTC) and its dashboard (port 8080)."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.enable_dq_platform || (var.dq_runner_package != null && var.web != null)
    error_message = "enable_dq_platform needs dq_runner_package and web."
  }
}

variable "dq_runner_package" {
  description = "Where the runner's zip lies in the code bucket, and its SHA-256 in base64: the last line of the upload in `make build-all`."
  type        = object({ key = string, sha256_base64 = string })
  default     = null

  validation {
    condition     = var.dq_runner_package == null || (can(regex("^lambda/[0-9a-f]{16}/dq_runner\\.zip$", var.dq_runner_package.key)) && can(regex("^[A-Za-z0-9+/]{43}=$", var.dq_runner_package.sha256_base64)))
    error_message = "dq_runner_package has to name an uploaded zip (lambda/<16 hex>/dq_runner.zip) and its SHA-256 in base64: the last line of `make build-all`."
  }
}

variable "dq_runner_reserved_concurrency" {
  description = "How many of the runner may run at once; null: Lambda reserves nothing. Lambda keeps 10 or more of the account's limit unreserved, and a new account's limit is 10: there it refuses every number."
  type        = number
  default     = null

  validation {
    condition     = var.dq_runner_reserved_concurrency == null || try(var.dq_runner_reserved_concurrency >= 1 && var.dq_runner_reserved_concurrency <= 10, false)
    error_message = "dq_runner_reserved_concurrency has to be null or 1 to 10."
  }
}

variable "enable_analytics_platform" {
  description = "The report service and the analytics app."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.enable_analytics_platform || var.web != null
    error_message = "enable_analytics_platform needs web."
  }
}

variable "web" {
  description = "What the load balancer of the services needs: a certificate, who may connect, and the Cognito user pool by which people sign in. The pool and its client are made outside, because Terraform would keep the client's secret in its state."
  type = object({
    certificate_arn        = string
    allowed_cidrs          = list(string)
    user_pool_arn          = string
    user_pool_client_id    = string
    user_pool_domain       = string
    deletion_protection    = optional(bool, true)
    domain                 = string
    service_cpu            = optional(number, 512)
    service_memory_mb      = optional(number, 1024)
    service_cpu_arm64      = optional(bool, false)
    services_desired_count = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.web == null || try(can(regex("^arn:aws[a-z-]*:acm:", var.web.certificate_arn)) && can(regex("^arn:aws[a-z-]*:cognito-idp:", var.web.user_pool_arn)) && length(var.web.allowed_cidrs) > 0 && alltrue([for c in var.web.allowed_cidrs : can(cidrhost(c, 0))]), false)
    error_message = "web needs the ARNs of a certificate (ACM) and a user pool (Cognito), and at least one range of addresses that may connect."
  }
}

variable "image_tags" {
  description = "Tag of each service's image (dq-platform-dashboard, report-service, analytics-app). A service without one has no task running."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([for s, t in var.image_tags :
      contains(["dq-platform-dashboard", "report-service", "analytics-app"], s) && t != "latest" && can(regex("^[A-Za-z0-9._-]{1,128}$", t))
    ])
    error_message = "image_tags maps dq-platform-dashboard, report-service or analytics-app to a tag; latest is none, because it names another image tomorrow."
  }
}
