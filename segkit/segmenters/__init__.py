"""Annotators and the timeline: who speaks when, from activity to candidate segments."""
