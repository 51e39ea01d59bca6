#!/usr/bin/env bash
# What `make` does against an AWS account, one function a target. DRY_RUN=1 prints every command and runs none.
#
#   ENV=dev|prod          which terraform/environments/<ENV>.tfvars (default dev)
#   TFSTATE_BUCKET=…      bucket of Terraform's state (default lakehouse-<ENV>-tfstate-<account>)
#   SERVICE=…             one service in place of all that are enabled, for the targets about services
#   APPROVED_PLAN=…       deploy only a plan whose text has this SHA-256 (.github/workflows/deploy.yml)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

env_name=${ENV:-dev}
tfvars=environments/$env_name.tfvars
plan=$env_name.tfplan
# Every service there may be; which of them are enabled is said by Terraform's outputs.
services=(dq-platform-dashboard report-service analytics-app)
case "${DRY_RUN:-}" in '' | 0) dry= ;; *) dry=1 ;; esac

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
run() {
  if [ -n "$dry" ]; then
    printf '+'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}
python() {
  if [ -x .venv/bin/python ]; then .venv/bin/python "$@"; else python3 "$@"; fi
}

case $env_name in dev | prod) ;; *) fail "received ENV=$env_name, expected dev or prod" ;; esac

# A value of the filled-in tfvars, or of the example while nothing is run.
variable() {
  local file=terraform/$tfvars
  if [ ! -f "$file" ]; then
    [ -n "$dry" ] ||
      fail "terraform/$tfvars is missing: cp terraform/$tfvars.example terraform/$tfvars, then fill it in"
    file=$file.example
  fi
  sed -nE "s/^$1[[:space:]]*=[[:space:]]*\"([^\"]+)\".*/\1/p" "$file"
}
account() { variable account_id; }
# The default is that of terraform/variables.tf.
region() {
  local found
  found=$(variable region)
  say "${found:-eu-central-1}"
}
state_bucket() { say "${TFSTATE_BUCKET:-lakehouse-$env_name-tfstate-$(account)}"; }
terraform_in() { run terraform -chdir=terraform "$@"; }
cluster() { say "lakehouse-$env_name"; }
registry() { say "$(account).dkr.ecr.$(region).amazonaws.com"; }

# Every command below asks the Region of the environment, whatever the person's own is; boto3 reads the second name.
if [ -n "$dry" ] || [ -f "terraform/$tfvars" ]; then
  AWS_REGION=$(region)
  AWS_DEFAULT_REGION=$AWS_REGION
  export AWS_REGION AWS_DEFAULT_REGION
fi

# State and outputs are those of the backend that was initialised last: another environment's are refused.
initialised() {
  [ -z "$dry" ] || return 0
  local wanted found
  wanted=$(state_bucket)
  found=$(sed -nE 's/^ *"bucket": "([^"]+)".*/\1/p' terraform/.terraform/terraform.tfstate 2>/dev/null | head -n 1) ||
    found=
  [ "$found" = "$wanted" ] ||
    fail "terraform/ is initialised for ${found:-nothing}, expected the state in $wanted: make init ENV=$env_name"
}

# What the output `services` says, as a Python expression of it.
services_output() {
  local found
  found=$(terraform -chdir=terraform output -json services) ||
    fail "Terraform's outputs do not say which services there are: make deploy ENV=$env_name first"
  printf '%s' "$found" |
    python -c "import json, sys; services = json.load(sys.stdin); print($1)"
}
enabled() {
  if [ -n "$dry" ]; then printf '%s\n' "${services[@]}"; else
    services_output "*sorted(services['repositories']), sep='\\n'"
  fi
}
chosen() {
  local names
  names=${SERVICE:-$(enabled)} || exit 1
  [ -n "$names" ] || fail "no service is enabled in terraform/$tfvars: docs/deployment.md, step 8"
  say "$names"
}
# Tasks of a service that runs; ECS keeps what was set last, and Terraform leaves it alone.
desired_count() {
  if [ -n "$dry" ]; then say 1; else services_output "services.get('desired_count') or 1"; fi
}

at_least() { # VERSION MAJOR MINOR
  local major minor rest
  IFS=. read -r major minor rest <<<"$1"
  [ "${major:-0}" -gt "$2" ] || { [ "${major:-0}" = "$2" ] && [ "${minor:-0}" -ge "$3" ]; }
}
version_of() {
  case $1 in
  terraform) terraform version 2>/dev/null | sed -nE '1s/^Terraform v([0-9.]+).*/\1/p' ;;
  aws) aws --version 2>&1 | sed -nE 's|^aws-cli/([0-9.]+).*|\1|p' ;;
  git) git --version | sed -nE 's/^git version ([0-9.]+).*/\1/p' ;;
  esac
}
check_prerequisites() {
  local missing=() name oldest version caller
  for name in "terraform 1 11" "aws 2 0" "git 2 0"; do
    read -r name oldest <<<"$name"
    if ! command -v "$name" >/dev/null; then
      say "missing  $name"
      missing+=("$name")
    elif [ -n "$dry" ]; then
      say "+ $name --version, expected ${oldest/ /.} or newer"
    else
      version=$(version_of "$name") || version=
      # shellcheck disable=SC2086  # two words
      if at_least "$version" $oldest; then say "ok       $name $version"; else
        say "too old  $name ${version:-of no version}, expected ${oldest/ /.} or newer"
        missing+=("$name ${oldest/ /.}")
      fi
    fi
  done
  # Only to build the services' images.
  if command -v docker >/dev/null; then say "ok       docker"; else say "missing  docker (for services only)"; fi
  if [ -n "$dry" ]; then
    run aws sts get-caller-identity --query Account --output text
  elif [ ! -f "terraform/$tfvars" ]; then
    say "missing  terraform/$tfvars: cp terraform/$tfvars.example terraform/$tfvars"
    missing+=("$tfvars")
  else
    say "ok       terraform/$tfvars"
    caller=$(aws sts get-caller-identity --query Account --output text) || caller="nobody's"
    if [ "$caller" = "$(account)" ]; then say "ok       credentials of account $caller"; else
      say "wrong    credentials are $caller, account_id of terraform/$tfvars is $(account)"
      missing+=("credentials of $(account)")
    fi
  fi
  [ ${#missing[@]} = 0 ] || [ -n "$dry" ] || fail "install or fill in what is missing: ${missing[*]}"
}

tls_only() { # BUCKET
  printf '{"Version":"2012-10-17","Statement":[{"Sid":"TlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*",%s}]}' \
    "\"Resource\":[\"arn:aws:s3:::$1\",\"arn:aws:s3:::$1/*\"],\"Condition\":{\"Bool\":{\"aws:SecureTransport\":\"false\"}}"
}

# The bucket of the state cannot be made by what keeps its state in it. Every step may be repeated.
first_time_setup() {
  local bucket
  bucket=$(state_bucket)
  check_prerequisites
  if [ -n "$dry" ] || ! aws s3api head-bucket --bucket "$bucket" 2>/dev/null; then
    # S3 wants no constraint in its first Region.
    if [ "$(region)" = us-east-1 ]; then run aws s3api create-bucket --bucket "$bucket" --region us-east-1; else
      run aws s3api create-bucket --bucket "$bucket" --region "$(region)" \
        --create-bucket-configuration "LocationConstraint=$(region)"
    fi
  fi
  run aws s3api put-bucket-versioning --bucket "$bucket" --versioning-configuration Status=Enabled
  run aws s3api put-bucket-encryption --bucket "$bucket" --server-side-encryption-configuration \
    '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"},"BucketKeyEnabled":true}]}'
  run aws s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
  run aws s3api put-bucket-policy --bucket "$bucket" --policy "$(tls_only "$bucket")"
  init
}

init() {
  terraform_in init -input=false -reconfigure "-backend-config=bucket=$(state_bucket)" \
    "-backend-config=key=lakehouse/terraform.tfstate" "-backend-config=region=$(region)"
}
plan() {
  initialised
  terraform_in plan -input=false "-var-file=$tfvars" "-out=$plan"
}
# What was planned is applied, and nothing else; where somebody approved a plan, nothing but that one.
deploy() {
  local found
  plan
  if [ -n "${APPROVED_PLAN:-}" ] && [ -z "$dry" ]; then
    found=$(terraform -chdir=terraform show -no-color "$plan" | sha256sum | cut -c 1-64)
    [ "$found" = "$APPROVED_PLAN" ] ||
      fail "the plan is another than the one that was approved ($APPROVED_PLAN): the account has changed since. Run it anew"
  fi
  terraform_in apply -input=false "$plan"
}
destroy() {
  [ -n "$dry" ] || [ "${CONFIRM:-}" = "$env_name" ] ||
    fail "destroy removes the environment, with its data where force_destroy says so. If that is meant:
  make destroy ENV=$env_name CONFIRM=$env_name"
  initialised
  stop_application
  terraform_in plan -destroy -input=false "-var-file=$tfvars" "-out=$plan"
  terraform_in apply -input=false "$plan"
}

# AWS deletes an application of EMR Serverless only once it has stopped, which it does by itself when it has been idle.
stop_application() {
  local id
  if [ -n "$dry" ]; then
    say "+ aws emr-serverless stop-application --application-id <that of lakehouse-$env_name>"
    return
  fi
  for id in $(aws emr-serverless list-applications --states STARTING STARTED STOPPING --output text \
    --query "applications[?name=='lakehouse-$env_name'].id"); do
    aws emr-serverless stop-application --application-id "$id"
    until [ "$(aws emr-serverless get-application --application-id "$id" --output text \
      --query application.state)" = STOPPED ]; do sleep 5; done
  done
}

# Everything that is shipped: the release, its Python packages, the services' images.
build_all() {
  initialised
  run scripts/build_zip.sh --python
  run_release upload
  run_release activate
  local service tag
  tag=$(git rev-parse --short=12 HEAD)
  # Images may be built before their services are enabled.
  for service in ${SERVICE:-"${services[@]}"}; do
    local folder=services/${service//-/_}
    [ "$service" = dq-platform-dashboard ] && folder=services/dq_dashboard
    if [ ! -f "$folder/Dockerfile" ]; then
      say "$service: there is no $folder/Dockerfile in this checkout; skipped"
      continue
    fi
    # From the root: an image holds what its service imports of the others.
    run docker build --platform linux/amd64 --file "$folder/Dockerfile" --tag "$(registry)/$service:$tag" .
  done
}
run_release() {
  if [ -n "$dry" ]; then printf '+ scripts/release.py --environment %s %s\n' "$env_name" "$*"; else
    python scripts/release.py --environment "$env_name" "$@"
  fi
}
rollback() {
  initialised
  run_release rollback
}

deploy_services() {
  local service names tag
  initialised
  names=$(chosen)
  tag=$(git rev-parse --short=12 HEAD)
  if [ -n "$dry" ]; then
    say "+ aws ecr get-login-password --region $(region) | docker login --username AWS --password-stdin $(registry)"
  else
    aws ecr get-login-password --region "$(region)" |
      docker login --username AWS --password-stdin "$(registry)"
  fi
  for service in $names; do run docker push "$(registry)/$service:$tag"; done
  say "Set image_tags in terraform/$tfvars to $tag, then: make deploy start-services ENV=$env_name"
}
scale() { # COUNT SERVICE…: tasks of each service
  local service count=$1
  shift
  for service in "$@"; do
    run aws ecs update-service --cluster "$(cluster)" --service "$service" --desired-count "$count" \
      --query service.desiredCount
  done
}
running() { # SERVICE…
  run aws ecs describe-services --cluster "$(cluster)" --services "$@" \
    --query 'services[].[serviceName,status,runningCount,desiredCount]' --output text
}
start_services() {
  local names count
  initialised
  names=$(chosen)
  count=$(desired_count)
  # shellcheck disable=SC2086  # a name is one word
  scale "$count" $names
  # Ten minutes at most: a task whose image is not there, or that does not answer /health, never gets there.
  # shellcheck disable=SC2086
  run aws ecs wait services-stable --cluster "$(cluster)" --services $names
  # shellcheck disable=SC2086
  running $names
}
stop_services() {
  local names
  initialised
  names=$(chosen)
  # shellcheck disable=SC2086
  scale 0 $names
}
restart_services() {
  local service names
  initialised
  names=$(chosen)
  for service in $names; do
    run aws ecs update-service --cluster "$(cluster)" --service "$service" --force-new-deployment --query service.status
  done
}
status() {
  local names
  initialised
  terraform_in output
  run_release list
  run aws emr-serverless list-applications --output text \
    --query "applications[?name=='lakehouse-$env_name'].[id,state]"
  names=$(enabled)
  # shellcheck disable=SC2086  # a name is one word
  if [ -n "$names" ]; then running $names; else say "no service is enabled"; fi
  case $names in *dq-platform-dashboard*)
    run aws lambda get-function-configuration --function-name dq-platform-runner --output text \
      --query '[FunctionName, State, LastModified, CodeSha256]'
    ;;
  esac
}
get_urls() {
  initialised
  terraform_in output services
  terraform_in output airflow
}
logs_of() { run aws logs tail "/ecs/$1" --since 1h --follow; }
logs_report() { logs_of report-service; }
logs_streamlit() { logs_of analytics-app; }

case "${1:-}" in
check-prerequisites | first-time-setup | init | plan | deploy | destroy | build-all | deploy-services | start-services | \
  stop-services | restart-services | status | get-urls | logs-report | logs-streamlit | rollback) "${1//-/_}" ;;
*) fail "received '${1:-}', expected a target: see the list in $0" ;;
esac
