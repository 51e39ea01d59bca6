"""Names and words of the sample: many scripts, quotes, commas, line breaks, combining marks.

No name belongs to a real person; mail addresses use the reserved example domains.
"""

from __future__ import annotations

FIRST_NAMES = (
    "Anna", "Jürgen", "Zoë", "Zoe\u0308", "François", "Łukasz", "Øystein", "Åsa", "Žofie", "Ægir",
    "Siobhán", "Renée", "José María", "Nuño", "İbrahim", "Çağla", "Ștefan", "Dmitri", "Дмитрий", "Ольга",
    "Ελένη", "Γιώργος", "伟", "秀英", "陽菜", "太郎", "민준", "서연", "محمد", "فاطمة", "דוד", "नेहा",
    "Nguyễn", "Thảo", "Mary-Ann", "Jean Luc", "Conor", "Mia", "Noah", "Emma", "Liam", "Sofía", "Ida", "Ravi",
)  # fmt: skip

LAST_NAMES = (
    "Müller", "Weiß", "O'Brien", "D’Angelo", "van der Berg", "Nowak", "Kowalczyk", "Dvořák", "Sørensen", "Åkesson",
    "Þórsdóttir", "Gonçalves", "García Márquez", "Ibáñez", "Yılmaz", "Öztürk", "Popescu", "Иванов", "Петрова",
    "Παπαδόπουλος", "王", "李", "\U00020BB7田", "佐藤", "김", "이", "الهاشمي", "לוי", "शर्मा", "Trần", "Smith",
    "Jones", "Brown", "Null", "McDonald", "St. John", "de la Cruz", "Ng", "Li", "Schmidt", "Fischer", "Rossi",
)  # fmt: skip

COMPANY_STEMS = (
    "Nordwind", "Alpenblick", "Zażółć", "Fjord", "Côte d’Or", "Señal", "Ωmega", "Восток", "東京", "서울", "Bláa",
    "Acme", "Globex", "Initech", "Umbra", "Hooli", "Vandelay", "Stark & Söhne", "Blue Harbour", "Kraków", "Ærø",
    "Copper Kettle", "Silverline", "Tulip", "Meridian", "Quarry", "Lantern", "Orchard", "Pied Piper", "Sable",
)  # fmt: skip

COMPANY_KINDS = (
    "GmbH", "AG", "S.A.", "Sp. z o.o.", "a.s.", "Oy", "AB", "A/S", "B.V.", "Ltd", "Inc.", "LLC", "株式会社", "SAS",
)  # fmt: skip

# Written as they are into some company names: what breaks a hand-made CSV reader.
AWKWARD_COMPANIES = (
    'The "Quoted" Company',
    "Comma, Comma & Partners",
    "Two\nLines Ltd",
    "Semi;colon\tTab AG",
    'Ends with a quote"',
    "  Leading and trailing spaces  ",
    "'Single' quotes",
    "Back\\slash \\N GmbH",
)

INDUSTRIES = (
    "Agriculture", "Banking", "Chemicals", "Construction", "Education", "Energy", "Food & Beverage", "Healthcare",
    "Manufacturing", "Media", "Retail", "Technology", "Transportation", "",
)  # fmt: skip

ACCOUNT_TYPES = ("Customer - Direct", "Customer - Channel", "Prospect", "Partner", "")

COUNTRIES = (
    "Germany", "Nederland", "France", "Poland", "Österreich", "Schweiz", "Sverige", "Danmark", "Norway", "España",
    "Portugal", "Italia", "Česko", "United Kingdom", "Ireland", "United States", "Canada", "Australia", "日本", "",
)  # fmt: skip

LIFECYCLE_STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
)

LEAD_STATUSES = (
    "Open - Not Contacted",
    "Working - Contacted",
    "Closed - Converted",
    "Closed - Not Converted",
)

CARRIERS = ("DHL", "DPD", "Müller & Söhne Spedition", 'Kurier "Blitz"', "Hermes", "GLS, Süd", "PostNord")

MAIL_DOMAINS = ("example.com", "example.org", "example.net")

CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "PLN", "CZK", "NOK", "DKK", "CAD", "AUD")
CURRENCY_WEIGHTS = (36, 20, 10, 7, 5, 4, 5, 4, 2, 3, 2, 2)
