"""Which transformation makes a stream's silver rows. A stream is a contract, a file and a line here."""

from collections.abc import Callable
from functools import partial

from transformations.crm import normalise_crm
from transformations.interactions import normalise_interactions
from transformations.leads import normalise_leads
from transformations.verdict import Normalise

# stream → (path of the MaxMind file or None) → what makes columns of its silver table
NORMALISE: dict[str, Callable[[str | None], Normalise]] = {
    "lead.ingest": normalise_leads,
    "text.agent.turn.completed": normalise_interactions,
    "agent.tool.invoked": normalise_interactions,
    "text.agent.session.updated": normalise_interactions,
    "frontend.user.interaction": normalise_interactions,
    "frontend.session.analytics": normalise_interactions,
    "frontend.widget.performance": normalise_interactions,
    "billing.usage.metered": normalise_interactions,
    "marketo.leads.delta": normalise_interactions,
    "crm.leads": partial(normalise_crm, "lead_id"),
    "crm.contacts": partial(normalise_crm, "contact_id"),
    "crm.opportunities": partial(normalise_crm, "opportunity_id"),
    "crm.events": partial(normalise_crm, ""),
}
