# The tag by which people are granted columns: register_glue_tables puts each column's classification on it, as its contract
# has it. Whoever applies this has to be an administrator of Lake Formation.

locals {
  # The role that registers tables.
  tagger          = var.lake_formation_tags ? toset(["emr_transform"]) : toset([])
  classifications = ["public", "internal", "personal"]
}

resource "aws_lakeformation_lf_tag" "classification" {
  for_each = local.tagger

  key    = "classification"
  values = local.classifications
}

resource "aws_lakeformation_permissions" "classification" {
  for_each = local.tagger

  principal   = aws_iam_role.this[each.key].arn
  permissions = ["ASSOCIATE", "DESCRIBE"]

  lf_tag {
    key    = aws_lakeformation_lf_tag.classification[each.key].key
    values = local.classifications
  }
}

data "aws_iam_policy_document" "classification" {
  for_each = local.tagger

  statement {
    sid       = "ClassificationOfColumns"
    actions   = ["lakeformation:AddLFTagsToResource", "lakeformation:GetResourceLFTags"]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "classification" {
  for_each = local.tagger

  name   = "classification"
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.classification[each.key].json
}
