"""Puts the operations group together: services, gRPC, GraphQL, events and background work."""

from domain.catalog import Group
from domain.operations.notification.ports import Providers
from domain.operations.notification.repository import LISTED_CHANNEL
from subgraphs.operations.context import OperationsContext
from subgraphs.operations.notification.adapters.contacts import GrpcContacts
from subgraphs.operations.notification.adapters.mail import SmtpNotifications
from subgraphs.operations.notification.adapters.push import FcmPush
from subgraphs.operations.notification.adapters.sms import SolapiSms
from subgraphs.operations.notification.faces import notification_faces
from subgraphs.operations.schema import schema
from subgraphs.operations.services import operations_services
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.signals import Signals


async def build(resources: GroupResources) -> GroupFaces:
    """The faces of the group on the given resources.

    Raises:
        SettingsError: `FCM_SERVER_KEY` is no service account's key.
    """
    settings, database, clock = resources.settings, resources.database, resources.clock
    push, text = FcmPush(settings.push, clock), SolapiSms(settings.sms, clock)
    services = operations_services(
        database,
        clock,
        sealer=resources.sealer,
        contacts=GrpcContacts(resources.clients("notification")),
        counter=resources.limiter,
        providers=Providers(push=push, mail=SmtpNotifications(settings.smtp), text=text),
    )
    signals = Signals(database, LISTED_CHANNEL)

    async def close() -> None:
        await push.close()
        await text.close()

    return GroupFaces(
        group=Group.OPERATIONS,
        services=(notification_faces(services, database, signals),),
        schema=schema,
        graphql_context=lambda request: OperationsContext.of(request, services, database, signals),
        close=close,
    )
