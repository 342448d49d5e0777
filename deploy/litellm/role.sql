-- A role for tallykeep that reads what its figures need and nothing else: no prompts and answers, no passwords,
-- no e-mail addresses. Run it in LiteLLM's database as the owner of its tables, and again after an upgrade of
-- LiteLLM that brings new columns; then give the role a password:
--   psql -d litellm -f role.sql
--   psql -d litellm -c '\password tallykeep'
-- Generated from the code by `make docs`.
DO $$
DECLARE
    wanted record;
    columns text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tallykeep') THEN
        CREATE ROLE tallykeep LOGIN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tallykeep', current_schema());
    FOR wanted IN SELECT * FROM (VALUES
        ('LiteLLM_SpendLogs', ARRAY[
            'startTime', 'endTime', 'api_key', 'spend', 'total_tokens', 'prompt_tokens', 'completion_tokens',
            'model', 'custom_llm_provider', 'user', 'team_id', 'end_user', 'cache_hit', 'request_tags',
            'metadata', 'status', 'organization_id']),
        ('LiteLLM_VerificationToken', ARRAY[
            'token', 'key_name', 'key_alias', 'user_id', 'team_id', 'max_budget', 'spend', 'tpm_limit',
            'rpm_limit', 'max_parallel_requests', 'budget_reset_at', 'models', 'expires', 'blocked',
            'organization_id', 'budget_id', 'budget_duration', 'created_at']),
        ('LiteLLM_UserTable', ARRAY[
            'user_id', 'user_alias', 'max_budget', 'spend', 'tpm_limit', 'rpm_limit', 'max_parallel_requests',
            'budget_reset_at', 'models', 'budget_duration', 'created_at']),
        ('LiteLLM_TeamTable', ARRAY[
            'team_id', 'team_alias', 'organization_id', 'max_budget', 'spend', 'tpm_limit', 'rpm_limit',
            'max_parallel_requests', 'budget_reset_at', 'models', 'blocked', 'members_with_roles', 'soft_budget',
            'budget_duration', 'created_at', 'members', 'admins']),
        ('LiteLLM_OrganizationTable', ARRAY[
            'organization_id', 'organization_alias', 'budget_id', 'spend', 'models', 'created_at']),
        ('LiteLLM_TeamMembership', ARRAY[
            'spend', 'budget_id', 'team_id', 'user_id']),
        ('LiteLLM_OrganizationMembership', ARRAY[
            'budget_id', 'organization_id', 'user_id', 'created_at']),
        ('LiteLLM_EndUserTable', ARRAY[
            'spend', 'budget_id', 'blocked', 'user_id', 'alias']),
        ('LiteLLM_BudgetTable', ARRAY[
            'max_budget', 'soft_budget', 'tpm_limit', 'rpm_limit', 'max_parallel_requests', 'budget_reset_at',
            'budget_id', 'budget_duration']),
        ('LiteLLM_ProxyModelTable', ARRAY[
            'litellm_params', 'model_name'])
    ) AS needed (name, columns)
    LOOP
        SELECT string_agg(quote_ident(a.attname), ', ') INTO columns
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = to_regclass(quote_ident(wanted.name)) AND a.attname = ANY (wanted.columns)
            AND a.attnum > 0 AND NOT a.attisdropped;
        IF columns IS NOT NULL THEN  -- an older LiteLLM lacks some
            EXECUTE format('GRANT SELECT (%s) ON %I TO tallykeep', columns, wanted.name);
        END IF;
    END LOOP;
END $$;
