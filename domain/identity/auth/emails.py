"""Mail addresses in the one form that they are stored and compared in."""

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from domain.identity.auth.errors import InvalidEmail
from domain.validation import MAX_MAIL, mail_shape

# A clinic's own network has addresses under `.local`, and existing clients' trials use `.test`. Changing this list is the
# way that email-validator documents for it.
for _name in ("local", "test"):
    if _name in SPECIAL_USE_DOMAIN_NAMES:
        SPECIAL_USE_DOMAIN_NAMES.remove(_name)


def normal_email(given: str) -> str:
    """The address in lower case, composed Unicode and with its domain in readable form.

    Whether mail reaches it is not asked of the DNS.

    Raises:
        InvalidEmail: it cannot be a mail address; says why.
    """
    text = mail_shape(given, error=lambda _, rule: InvalidEmail(f"it {rule}."))
    try:
        checked = validate_email(text, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise InvalidEmail(str(error)) from error
    if "." not in checked.domain:
        raise InvalidEmail("the part after the @-sign needs a dot.")
    return checked.normalized.lower()


def lookup_email(given: str) -> str:
    """As `normal_email`, but text that is no address gives a form that no account has: sign-in answers alike for both."""
    try:
        return normal_email(given)
    except InvalidEmail:
        return f"invalid:{given[:MAX_MAIL].strip().lower()}"
