"""Salesforce accounts and leads, HubSpot contacts: the first day and the changes of later days."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from local.samples import words
from local.samples.base import (
    DAY,
    HOUR,
    MINUTE,
    Flaws,
    Spec,
    hubspot_timestamp,
    salesforce_timestamp,
    whole_milliseconds,
    whole_seconds,
)

ACCOUNT_HEADER = [
    "Id", "Name", "Type", "Industry", "BillingCountry", "Phone", "Website", "IsDeleted", "CreatedDate",
    "LastModifiedDate", "SystemModstamp",
]  # fmt: skip
LEAD_HEADER = [
    "Id", "FirstName", "LastName", "Email", "Company", "Status", "Country", "ConvertedAccountId", "IsConverted",
    "IsDeleted", "CreatedDate", "LastModifiedDate", "SystemModstamp",
]  # fmt: skip
CONTACT_HEADER = [
    "id", "createdate", "lastmodifieddate", "email", "firstname", "lastname", "phone", "company", "lifecyclestage",
    "country", "salesforceaccountid", "archived", "merged_into",
]  # fmt: skip

# A share of the contacts was written by one bulk import and has one modification time, to the millisecond:
# paging by time alone cannot step through them.
BULK_IMPORT_SHARE = 0.1


@dataclass(frozen=True)
class Account:
    id: str
    name: str
    type: str
    industry: str
    country: str
    phone: str
    website: str
    deleted: bool
    created_us: int
    modified_us: int

    def row(self) -> list[str]:
        modified = salesforce_timestamp(self.modified_us)
        return [
            self.id, self.name, self.type, self.industry, self.country, self.phone, self.website,
            _boolean(self.deleted), salesforce_timestamp(self.created_us), modified, modified,
        ]  # fmt: skip


@dataclass(frozen=True)
class Lead:
    id: str
    first_name: str
    last_name: str
    email: str
    company: str
    status: str
    country: str
    account_id: str
    deleted: bool
    created_us: int
    modified_us: int

    def row(self) -> list[str]:
        modified = salesforce_timestamp(self.modified_us)
        return [
            self.id, self.first_name, self.last_name, self.email, self.company, self.status, self.country,
            self.account_id, _boolean(bool(self.account_id)), _boolean(self.deleted),
            salesforce_timestamp(self.created_us), modified, modified,
        ]  # fmt: skip


@dataclass(frozen=True)
class Contact:
    id: str
    created_us: int
    modified_us: int
    email: str
    first_name: str
    last_name: str
    phone: str
    company: str
    stage: str
    country: str
    account_id: str
    archived: bool = False
    merged_into: str = ""

    def row(self) -> list[str]:
        return [
            self.id, hubspot_timestamp(self.created_us), hubspot_timestamp(self.modified_us), self.email,
            self.first_name, self.last_name, self.phone, self.company, self.stage, self.country, self.account_id,
            _boolean(self.archived), self.merged_into,
        ]  # fmt: skip


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def salesforce_id(prefix: str, number: int) -> str:
    """An 18-character id: 15 case-sensitive characters and the checksum of their capitals."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        body = digits[digit] + body
    core = f"{prefix}5i0000{body}"
    checksum = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, char in enumerate(core[start : start + 5]) if char.isupper())
        checksum += "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[bits]
    return core + checksum


def _phone(rng: random.Random) -> str:
    return "" if rng.random() < 0.08 else f"+{rng.randrange(1, 99)} {rng.randrange(10**6, 10**9)}"


def _company(rng: random.Random) -> str:
    if rng.random() < 0.01:
        return rng.choice(words.AWKWARD_COMPANIES)
    return f"{rng.choice(words.COMPANY_STEMS)} {rng.choice(words.COMPANY_STEMS)} {rng.choice(words.COMPANY_KINDS)}"


def _span(rng: random.Random, spec: Spec) -> tuple[int, int]:
    """Creation and last modification of a record of the first day, both before its end."""
    created = rng.randrange(spec.start_us - 365 * DAY, spec.end_us - DAY)
    modified = rng.randrange(created, spec.end_us)
    return whole_milliseconds(created), whole_milliseconds(modified)


def accounts(spec: Spec) -> list[Account]:
    rng = spec.rng("accounts")
    result = []
    for number in range(spec.sizes.accounts):
        created, modified = _span(rng, spec)
        result.append(
            Account(
                id=salesforce_id("001", number * 7 + 1001),
                name=_company(rng),
                type=rng.choice(words.ACCOUNT_TYPES),
                industry=rng.choice(words.INDUSTRIES),
                country=rng.choice(words.COUNTRIES),
                phone=_phone(rng),
                website=""
                if rng.random() < 0.1
                else f"https://www.{number}.{rng.choice(words.MAIL_DOMAINS)}",
                deleted=spec.flaws != "none" and rng.random() < 0.01,
                created_us=whole_seconds(created),
                modified_us=max(whole_seconds(modified), whole_seconds(created)),
            )
        )
    return result


def leads(spec: Spec, of: list[Account]) -> list[Lead]:
    rng = spec.rng("leads")
    result = []
    for number in range(spec.sizes.leads):
        created, modified = _span(rng, spec)
        converted = bool(of) and rng.random() < 0.15
        first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
        result.append(
            Lead(
                id=salesforce_id("00Q", number * 5 + 501),
                first_name="" if rng.random() < 0.03 else first,
                last_name=last,
                email="" if rng.random() < 0.05 else f"lead{number}@{rng.choice(words.MAIL_DOMAINS)}",
                company=_company(rng),
                status="Closed - Converted" if converted else rng.choice(words.LEAD_STATUSES),
                country=rng.choice(words.COUNTRIES),
                account_id=rng.choice(of).id if converted else "",
                deleted=spec.flaws != "none" and rng.random() < 0.01,
                created_us=whole_seconds(created),
                modified_us=max(whole_seconds(modified), whole_seconds(created)),
            )
        )
    return result


def contact(rng: random.Random, number: int, created: int, modified: int, account_id: str) -> Contact:
    email = f"contact{number}@{rng.choice(words.MAIL_DOMAINS)}"
    return Contact(
        id=str(1001 + number * 50),
        created_us=created,
        modified_us=modified,
        email="" if rng.random() < 0.01 else email,
        first_name="" if rng.random() < 0.02 else rng.choice(words.FIRST_NAMES),
        last_name=rng.choice(words.LAST_NAMES),
        phone=_phone(rng),
        company=_company(rng),
        stage=rng.choice(words.LIFECYCLE_STAGES),
        country=rng.choice(words.COUNTRIES),
        account_id=account_id,
    )


def contacts(spec: Spec, of: list[Account], flaws: Flaws) -> list[Contact]:
    rng = spec.rng("contacts")
    import_us = whole_milliseconds(spec.end_us - 3 * DAY + 2 * HOUR)
    result = []
    for number in range(spec.sizes.contacts):
        created, modified = _span(rng, spec)
        if created < import_us and rng.random() < BULK_IMPORT_SHARE:
            modified = import_us
        account_id = rng.choice(of).id if of and rng.random() < 0.9 else ""
        result.append(contact(rng, number, created, modified, account_id))
    _flaw_contacts(spec, result, flaws)
    return result


def _flaw_contacts(spec: Spec, all_contacts: list[Contact], flaws: Flaws) -> None:
    """Archive, merge and mislead some contacts, each row at most once."""
    rng = spec.rng("contact flaws")
    rows = len(all_contacts)
    wanted = {
        "archived": flaws.count(rows, 0.01),
        "merged": flaws.count(rows, 0.002),
        "unknown_account": flaws.count(rows, 0.002),
    }
    chosen = rng.sample(range(rows), min(rows, sum(wanted.values()) + wanted["merged"]))
    taken: dict[str, list[str]] = {kind: [] for kind in wanted}
    for kind, count in wanted.items():
        for _ in range(count):
            if not chosen:
                break
            index = chosen.pop()
            old = all_contacts[index]
            if kind == "archived":
                all_contacts[index] = replace(old, archived=True)
            elif kind == "unknown_account":
                all_contacts[index] = replace(old, account_id=salesforce_id("001", 900_000_000 + index))
            else:
                # The survivor of a merge is a contact that is neither archived nor merged itself.
                survivor = all_contacts[chosen.pop()]
                all_contacts[index] = replace(old, merged_into=survivor.id)
            taken[kind].append(old.id)
    for kind, keys in taken.items():
        flaws.declare("bronze.hubspot_contacts", kind, "keep", keys)


def changed_contacts(spec: Spec, base: list[Contact], of: list[Account], flaws: Flaws) -> list[Contact]:
    """What a later day brings: new contacts, updates, archived ones, and updates older than what is stored."""
    rng = spec.rng("contacts", spec.day)
    start, end = spec.window_us(spec.day)

    def at() -> int:
        return whole_milliseconds(rng.randrange(start + MINUTE, end))

    live = [c for c in base if not c.archived and not c.merged_into]
    rng.shuffle(live)
    updates = max(1, len(base) // 50)
    result = [
        replace(c, modified_us=at(), phone=_phone(rng), stage=rng.choice(words.LIFECYCLE_STAGES))
        for c in live[:updates]
    ]
    archived = [
        replace(c, modified_us=at(), archived=True) for c in live[updates : updates + max(1, updates // 10)]
    ]
    used = updates + len(archived)
    stale = [
        replace(c, modified_us=whole_milliseconds(c.modified_us - DAY), company="An older state")
        for c in live[used : used + max(1, updates // 20)]
    ]
    first_new = spec.sizes.contacts + spec.day * 100_000
    new = []
    for number in range(first_new, first_new + max(1, len(base) // 100)):
        moment = at()
        new.append(contact(rng, number, moment, moment, rng.choice(of).id if of else ""))
    flaws.declare("bronze.hubspot_contacts", "archived", "keep", [c.id for c in archived])
    flaws.declare("bronze.hubspot_contacts", "older_than_stored", "keep", [c.id for c in stale])
    return result + archived + stale + new


def changed_accounts(spec: Spec, base: list[Account], flaws: Flaws) -> list[Account]:
    rng = spec.rng("accounts", spec.day)
    start, end = spec.window_us(spec.day)

    def at() -> int:
        return whole_seconds(rng.randrange(start + MINUTE, end))

    live = [a for a in base if not a.deleted]
    rng.shuffle(live)
    updates = max(1, len(base) // 50)
    changed = [replace(a, modified_us=at(), industry=rng.choice(words.INDUSTRIES)) for a in live[:updates]]
    deleted = [
        replace(a, modified_us=at(), deleted=True) for a in live[updates : updates + max(1, updates // 10)]
    ]
    new = []
    for number in range(max(1, len(base) // 100)):
        moment = at()
        identifier = salesforce_id("001", (spec.sizes.accounts + spec.day * 100_000 + number) * 7 + 1001)
        template = (
            rng.choice(base) if base else Account(identifier, "", "", "", "", "", "", False, moment, moment)
        )
        new.append(
            replace(
                template,
                id=identifier,
                name=_company(rng),
                deleted=False,
                created_us=moment,
                modified_us=moment,
            )
        )
    flaws.declare("bronze.salesforce_accounts", "deleted", "keep", [a.id for a in deleted])
    return changed + deleted + new


def changed_leads(spec: Spec, base: list[Lead], of: list[Account], flaws: Flaws) -> list[Lead]:
    rng = spec.rng("leads", spec.day)
    start, end = spec.window_us(spec.day)

    def at() -> int:
        return whole_seconds(rng.randrange(start + MINUTE, end))

    live = [lead for lead in base if not lead.deleted and not lead.account_id]
    rng.shuffle(live)
    updates = max(1, len(base) // 40)
    converted = [
        replace(lead, modified_us=at(), status="Closed - Converted", account_id=rng.choice(of).id)
        for lead in (live[:updates] if of else [])
    ]
    deleted = [
        replace(lead, modified_us=at(), deleted=True)
        for lead in live[updates : updates + max(1, updates // 10)]
    ]
    flaws.declare("bronze.salesforce_leads", "deleted", "keep", [lead.id for lead in deleted])
    return converted + deleted
