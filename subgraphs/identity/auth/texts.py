"""What auth says to people, in their language."""

from subgraphs.runtime.context import Locale

RESET_REQUESTED: dict[Locale, str] = {
    "ko": "이 주소로 가입된 계정이 있으면 비밀번호 재설정 메일을 보냅니다.",
    "en": "If this address has an account, a mail to reset its password is on its way.",
}
EMAIL_CODE_REQUESTED: dict[Locale, str] = {
    "ko": "메일로 확인 코드를 보냅니다.",
    "en": "A mail with a code is on its way.",
}
EMAIL_PROVEN: dict[Locale, str] = {
    "ko": "메일 주소가 확인되었습니다.",
    "en": "The mail address is confirmed.",
}
PASSWORD_RESET: dict[Locale, str] = {
    "ko": "비밀번호가 바뀌었습니다. 새 비밀번호로 다시 로그인하세요.",
    "en": "The password was changed; sign in with the new one.",
}
