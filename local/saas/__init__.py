"""Local doubles of HubSpot, Salesforce and the ECB: they speak the documented protocols to the real clients."""
