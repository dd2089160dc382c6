"""The group's services, constructed once a process and joined in-process."""

from dataclasses import dataclass

from domain.clock import Clock
from domain.operations.notification.deliver import DeliveryWorker
from domain.operations.notification.models import Channel
from domain.operations.notification.phones import PhoneService
from domain.operations.notification.ports import AttemptCounter, Contacts, Providers
from domain.operations.notification.preference_service import PreferenceService
from domain.operations.notification.sending import SendingService
from domain.operations.notification.service import NotificationService
from domain.operations.notification.template_service import TemplateService
from domain.sealing import Sealer
from domain.sessions import Sessions


@dataclass(frozen=True, slots=True)
class OperationsServices:
    notifications: NotificationService
    sending: SendingService
    preferences: PreferenceService
    templates: TemplateService
    phones: PhoneService
    deliveries: DeliveryWorker
    clock: Clock


def operations_services(
    sessions: Sessions,
    clock: Clock,
    *,
    sealer: Sealer,
    contacts: Contacts,
    counter: AttemptCounter,
    providers: Providers,
) -> OperationsServices:
    """The services, each with what it needs of the others."""
    preferences = PreferenceService(clock, sealer)
    templates = TemplateService(clock)
    sending = SendingService(
        clock,
        sealer=sealer,
        contacts=contacts,
        counter=counter,
        preferences=preferences,
        templates=templates,
        configured=_configured(providers),
    )
    deliveries = DeliveryWorker(
        clock, sealer=sealer, sessions=sessions, contacts=contacts, preferences=preferences, providers=providers
    )
    return OperationsServices(
        NotificationService(clock, sealer=sealer),
        sending,
        preferences,
        templates,
        PhoneService(clock, sealer=sealer, sessions=sessions, counter=counter, texts=providers.text),
        deliveries,
        clock,
    )


def _configured(providers: Providers) -> frozenset[Channel]:
    senders = ((Channel.PUSH, providers.push), (Channel.EMAIL, providers.mail), (Channel.SMS, providers.text))
    return frozenset(channel for channel, sender in senders if sender.is_configured)
