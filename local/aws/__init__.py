"""The local AWS: moto's server, with what moto only pretends (S3 on disk, EMR Serverless, Athena) made real.

Every patch to moto lives in this package, each with the reason beside it.
"""
