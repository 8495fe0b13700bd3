"""Pages made from results: report, comparison, model card, claims."""
