"""The ledger in the form of FOCUS 1.2, the FinOps Open Cost and Usage Specification. Pure.

A row is what one provider session cost on one day for one thing: tokens of a model at a price, running time, or
what the provider's own sum has more or less. Columns are named and ordered as the specification has them; those of
ours begin with `x_`.
"""

from __future__ import annotations

from datetime import date
from typing import Any

_USD = "CAST(toDecimal128(sum(micro_usd), 6) / 1000000, 'Decimal(18, 6)')"
_TOKENS = "input_tokens + output_tokens + cache_read_tokens + cache_write_tokens"
# Rows about tokens have a model; FOCUS knows no charge that is part usage, part correction.
_METER = (
    "multiIf(kind = 'running', 'Session Hours', kind = 'cache_hour', 'Cache Hour Tokens', "
    "kind = 'provider', 'Other', 'Tokens')"
)
_QUANTITY = (
    "multiIf(kind = 'running', toNullable(toFloat64(sum(active_seconds)) / 3600), "
    "kind = 'cache_hour', toFloat64(sum(cache_hour_tokens)), "
    f"kind = 'provider', NULL, toFloat64(sum({_TOKENS})))"
)
_UNIT = "multiIf(kind = 'running', 'Hours', kind = 'provider', NULL, 'Tokens')"
_ABOUT = (
    "multiIf(kind = 'running', 'Running time of a session', "
    "kind = 'cache_hour', concat('Prompt cache kept for an hour, ', model), "
    "kind = 'unseen', 'Tokens that no request told of (estimated)', "
    "kind = 'provider', 'What the sum of the provider has more or less: searches, surcharges, rounding', "
    "concat('Tokens of ', model))"
)
_SKU = "if(model = '', SkuMeter, concat(model, '/', SkuMeter))"
_TAGS = (
    "map('tenant', tenant_id, 'user', user_id, 'session', session_id, 'agent', agent, "
    "'estimate', if(estimate, 'true', 'false'))"
)
COLUMNS: dict[str, str] = {
    "BilledCost": _USD,
    "BillingAccountId": "{account:String}",
    "BillingAccountName": "{account:String}",
    "BillingCurrency": "'USD'",
    "BillingPeriodEnd": "toDateTime64(toStartOfMonth(day) + INTERVAL 1 MONTH, 3, 'UTC')",
    "BillingPeriodStart": "toDateTime64(toStartOfMonth(day), 3, 'UTC')",
    "ChargeCategory": "if(kind = 'provider', 'Adjustment', 'Usage')",
    "ChargeClass": "CAST(NULL, 'Nullable(String)')",
    "ChargeDescription": _ABOUT,
    "ChargeFrequency": "'Usage-Based'",
    "ChargePeriodEnd": "toDateTime64(day + INTERVAL 1 DAY, 3, 'UTC')",
    "ChargePeriodStart": "toDateTime64(day, 3, 'UTC')",
    "ConsumedQuantity": _QUANTITY,
    "ConsumedUnit": _UNIT,
    "ContractedCost": _USD,
    "ContractedUnitPrice": "CAST(NULL, 'Nullable(Decimal(18, 6))')",
    "EffectiveCost": _USD,
    "InvoiceIssuerName": "'Anthropic'",
    "ListCost": _USD,
    "ListUnitPrice": "CAST(NULL, 'Nullable(Decimal(18, 6))')",
    "PricingCategory": "'Standard'",
    "PricingQuantity": _QUANTITY,
    "PricingUnit": _UNIT,
    "ProviderName": "'Anthropic'",
    "PublisherName": "'Anthropic'",
    "ResourceId": "nullIf(provider_session_id, '')",
    "ResourceName": "session_id",
    "ResourceType": "'Session'",
    "ServiceCategory": "'AI and Machine Learning'",
    "ServiceName": "'Claude Managed Agents'",
    "ServiceSubcategory": "'Generative AI'",
    "SkuId": _SKU,
    "SkuMeter": _METER,
    "SkuPriceId": "nullIf(toString(price), '')",
    "SubAccountId": "tenant_id",
    "SubAccountName": "tenant_id",
    "Tags": _TAGS,
    "x_CacheReadTokens": "sum(cache_read_tokens)",
    "x_CacheWriteTokens": "sum(cache_write_tokens)",
    "x_Estimated": "estimate",
    "x_InputTokens": "sum(input_tokens)",
    "x_Kind": "toString(kind)",
    "x_Model": "toString(model)",
    "x_OutputTokens": "sum(output_tokens)",
}
_KEY = (
    "day",
    "tenant_id",
    "session_id",
    "provider_session_id",
    "user_id",
    "agent",
    "kind",
    "model",
    "price",
    "estimate",
)


def statement(
    account: str, tenant: str = "", since: date | None = None, until: date | None = None
) -> tuple[str, dict[str, Any]]:
    """The rows of a tenant ("": of all) from the day `since` on and before `until`, and the statement's parameters.
    `account`: what the billing account is called."""
    conditions = ["kind != 'brought_forward'"]
    parameters: dict[str, Any] = {"account": account}
    if tenant:
        conditions.append("tenant_id = {tenant:String}")
        parameters["tenant"] = tenant
    for name, sign, day in (("since", ">=", since), ("until", "<", until)):
        if day is not None:
            conditions.append(f"toDate(at) {sign} {{{name}:Date}}")
            parameters[name] = day
    key = ", ".join(_KEY)
    columns = ", ".join(f"{text} AS {name}" for name, text in COLUMNS.items())
    lines = f"SELECT toDate(at) AS day, * FROM cost_facts WHERE {' AND '.join(conditions)}"
    return f"SELECT {columns} FROM ({lines}) GROUP BY {key} ORDER BY {key}", parameters
