"""Erasure and retention, from the bottom up:

ledger, legal_holds, redaction, purge, certificates, residue_scan; key_destruction (plans and
destroys the keys of many subjects); open_requests (locks a request, saves its progress); steps
(carries out a step of `domain.erasure.steps`); record (reads back); process (the loop); targets and
idempotency; requests (takes erasures on). notified reads which destinations were told.
activity_sums and retention end old months of activity.
"""
