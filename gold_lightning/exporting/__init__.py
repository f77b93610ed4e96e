"""Exports of a student: folders that predict without torch, compared with the student before they are handed out."""
